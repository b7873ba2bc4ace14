#include <stddef.h>

int start(void);
const char *reason(void);
const char *version(void);

/* Encodes a picture in a smaller width; 0 keeps it. The caller releases the result. */
int resize(void *in, size_t in_len, const char *format, int width, int quality, int effort, void **out, size_t *out_len);
void release(void *out);
