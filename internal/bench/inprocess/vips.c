#include <string.h>

#include <vips/vips.h>

#include "vips.h"

#if VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION < 15
#define KEEP "strip", TRUE
#else
#define KEEP "keep", VIPS_FOREIGN_KEEP_NONE
#endif

int start(void)
{
	if (vips_init("inprocess"))
		return -1;
	vips_concurrency_set(1);
	vips_cache_set_max(0);
	return 0;
}

const char *reason(void) { return vips_error_buffer(); }

const char *version(void) { return vips_version_string(); }

void release(void *out) { g_free(out); }

static int encode(VipsImage *image, const char *format, int quality, int effort, void **out, size_t *len)
{
	if (!strcmp(format, "jpeg"))
		return vips_jpegsave_buffer(image, out, len, "Q", quality, "optimize_coding", TRUE, KEEP, NULL);
	if (!strcmp(format, "webp"))
		return vips_webpsave_buffer(image, out, len, "Q", quality, KEEP, NULL);
	if (!strcmp(format, "avif"))
		return vips_heifsave_buffer(image, out, len, "Q", quality, "compression", VIPS_FOREIGN_HEIF_COMPRESSION_AV1,
			"effort", effort, "bitdepth", 8, KEEP, NULL);
	return vips_pngsave_buffer(image, out, len, KEEP, NULL);
}

int resize(void *in, size_t in_len, const char *format, int width, int quality, int effort, void **out, size_t *len)
{
	VipsImage *image = NULL;
	int failed;

	vips_error_clear();
	if (width > 0)
		failed = vips_thumbnail_buffer(in, in_len, &image, width, "height", 10000000, "size", VIPS_SIZE_DOWN, NULL);
	else
		failed = !(image = vips_image_new_from_buffer(in, in_len, "", NULL));
	if (failed)
		return -1;
	failed = encode(image, format, quality, effort, out, len);
	g_object_unref(image);
	vips_thread_shutdown();
	return failed;
}
