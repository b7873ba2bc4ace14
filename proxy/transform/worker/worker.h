/* The frames between ixmage and its worker, little-endian and without padding,
 * and what the files of the worker share. proxy/transform has the same frames in Go. */
#ifndef IXMAGE_WORKER_H
#define IXMAGE_WORKER_H

#include <stdint.h>

#define READY_MAGIC 0x31575849u    /* IXW1 */
#define REQUEST_MAGIC 0x51525849u  /* IXRQ */
#define RESPONSE_MAGIC 0x53525849u /* IXRS */

/* Sent once, when the sandbox is complete. */
struct ready {
	uint32_t magic, abi;
	uint32_t landlock; /* ABI of the kernel */
	uint32_t flags;    /* enum confined */
	char version[32];  /* of libvips, NUL padded */
};

enum confined { /* what the kernel has beyond the least */
	CONFINED_MDWE = 1,
	CONFINED_NETWORK = 2, /* by Landlock; seccomp refuses sockets in any case */
	CONFINED_SCOPES = 4,
};

enum type { JPEG = 1, PNG, WEBP, GIF, AVIF, RAW };
enum fit { FIT_NONE, CONTAIN, COVER, FILL, INSIDE, OUTSIDE };
enum gravity { CENTER, NORTH, NORTHEAST, EAST, SOUTHEAST, SOUTH, SOUTHWEST, WEST, NORTHWEST, SMART, FOCAL_POINT };
enum flag { GRAY = 1, KEEP_FRAMES = 2, KEEP_COPYRIGHT = 4, BACKGROUND = 8, TILE = 16 };
enum flip { HORIZONTAL = 1, VERTICAL = 2 };

/* Colours by the numbers of ITU-T H.273, where a file has them instead of a profile.
 * 0: sRGB, or what the profile in the file says. */
struct cicp {
	uint8_t primaries, transfer;
};

struct request {
	uint32_t magic, source_len, mark_len; /* these bytes follow: the source, then the watermark */
	uint8_t source_type, mark_type, output, fit;
	uint8_t gravity, rotate, flip, flags; /* rotate: quarter turns clockwise */
	uint32_t width, height;               /* 0: not given */
	uint32_t crop_x, crop_y, crop_w, crop_h;
	float focal_x, focal_y;
	uint8_t background[4]; /* RGBA */
	uint32_t quality;
	float blur, sharpen;                                /* sigma, 0: none */
	uint8_t mark_gravity, mark_opacity, mark_scale, effort; /* percent; scale 0: natural size */
	uint32_t max_pixels, max_frames;                    /* of the source */
	uint32_t max_output;                                /* bytes */
	uint32_t max_side, max_result;                      /* of the result, pixels over all frames */
	struct cicp source_colours, mark_colours;
	uint32_t number; /* of the job, which the response repeats */
	uint32_t reserved[3];
};

enum status { OK, TOO_LARGE, BROKEN, UNSUPPORTED, CROP_OUTSIDE, RESULT_TOO_LARGE, INTERNAL };

struct response {
	uint32_t magic, status, body_len;
	uint32_t width, height, frames;       /* of the result */
	uint32_t source_width, source_height; /* as stored, one frame */
	uint32_t orientation, source_frames, alpha;
	uint32_t decode_us, encode_us;
	uint32_t number; /* of the request */
	uint32_t reserved[2];
};

_Static_assert(sizeof(struct ready) == 48, "ready");
_Static_assert(sizeof(struct request) == 112, "request");
_Static_assert(sizeof(struct response) == 64, "response");

/* sandbox.c: confines the process for good. Exits with 3 and a line on stderr if
 * any part fails. */
void sandbox(struct ready *ready);

/* picture.c: source and mark are the bytes that followed the request. The caller
 * frees the body with g_free, also after an error. */
void picture_start(void);
enum status picture_transform(const struct request *request, const void *source, const void *mark,
	struct response *response, void **body);

/* colours.c: gives an image the profile that the numbers stand for. Does nothing for
 * zeros. */
struct _VipsImage;
void colours_describe(struct _VipsImage *image, struct cicp colours);

#endif
