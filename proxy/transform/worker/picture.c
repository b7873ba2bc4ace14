/* One picture becomes another. A job first plans in numbers, then builds the
 * operations for each frame, and renders. */
#include <math.h>
#include <string.h>

#include <vips/vips.h>

#include "worker.h"

enum {
	SOURCE_SIDE = 16384, /* pixels */
	SCANS = 16,          /* of a JPEG with max_pixels; a smaller one may have more. Encoders write 10 or so */
};

struct rect {
	int x, y, w, h;
};

struct job {
	const struct request *request;
	struct response *response;
	VipsImage *mark;    /* upright, sRGB with alpha, in memory; NULL: none */
	int gray;           /* the source has no colours */
	int turns, mirror;  /* from stored to upright, by EXIF: quarter turns, then left and right swap */
	int frames;         /* that are drawn */
	double shrink;      /* at which the source is loaded */
	struct rect crop;   /* of the stored source at that shrink */
	int scaled_w, scaled_h; /* after resizing, turned as asked */
	int canvas_w, canvas_h; /* of the result */
	int smart_x, smart_y;   /* what the first frame chose; -1: nothing yet */
};

/* The only loaders and savers that can run, by type. */
static const char *const loaders[] = {"", "VipsForeignLoadJpegBuffer", "VipsForeignLoadPngBuffer",
	"VipsForeignLoadWebpBuffer", "VipsForeignLoadNsgifBuffer", "VipsForeignLoadHeifBuffer"};
static const char *const savers[] = {"", "VipsForeignSaveJpegBuffer", "VipsForeignSavePngBuffer",
	"VipsForeignSaveWebpBuffer", "VipsForeignSaveCgifBuffer", "VipsForeignSaveHeifBuffer"};

static GLogWriterOutput silent(GLogLevelFlags level, const GLogField *fields, gsize n, gpointer data)
{
	(void)level, (void)fields, (void)n, (void)data;
	return G_LOG_WRITER_HANDLED;
}

void picture_start(void)
{
	g_log_set_writer_func(silent, NULL, NULL);
	vips_concurrency_set(1);
	vips_cache_set_max(0);
	vips_block_untrusted_set(TRUE);
	vips_operation_block_set("VipsForeign", TRUE);
	for (int type = JPEG; type <= AVIF; type++) {
		vips_operation_block_set(loaders[type], FALSE);
		vips_operation_block_set(savers[type], FALSE);
	}
}

/* Puts the result of an operation in place of its input. */
static int replace(VipsImage **image, int failed, VipsImage **next)
{
	if (failed)
		return -1;
	g_object_unref(*image);
	*image = *next;
	return 0;
}

static int in_memory(VipsImage **image)
{
	VipsImage *next = vips_image_copy_memory(*image);

	return replace(image, !next, &next);
}

/* frames: -1 for all. Only the header is read here. */
static VipsImage *load(int type, const void *bytes, size_t len, double shrink, int frames)
{
	VipsImage *image = NULL;
	void *buffer = (void *)bytes;
	int failed = 1;

#define COMMON "access", VIPS_ACCESS_SEQUENTIAL, "fail_on", VIPS_FAIL_ON_ERROR
	switch (type) {
	case JPEG:
		failed = vips_jpegload_buffer(buffer, len, &image, "shrink", (int)shrink, COMMON, NULL);
		break;
	case PNG:
		failed = vips_pngload_buffer(buffer, len, &image, COMMON, NULL);
		break;
	case WEBP:
		failed = vips_webpload_buffer(buffer, len, &image, "n", frames, "scale", 1 / shrink, COMMON, NULL);
		break;
	case GIF:
		failed = vips_gifload_buffer(buffer, len, &image, "n", frames, COMMON, NULL);
		break;
	case AVIF:
		failed = vips_heifload_buffer(buffer, len, &image, COMMON, NULL);
		break;
	}
#undef COMMON
	return failed ? NULL : image;
}

static enum status load_error(void)
{
	return strstr(vips_error_buffer(), "nsupported") ? UNSUPPORTED : BROKEN;
}

/* --- the plan --- */

static int valid(const struct request *r)
{
	return r->source_len > 0 && r->source_type >= JPEG && r->source_type <= AVIF && r->output >= JPEG && r->output <= RAW &&
		(r->mark_len == 0 || (r->mark_type >= JPEG && r->mark_type <= AVIF)) &&
		r->fit <= OUTSIDE && r->gravity <= FOCAL_POINT && r->rotate <= 3 && r->flip <= 3 && r->flags <= 31 &&
		r->width <= 65535 && r->height <= 65535 && r->focal_x >= 0 && r->focal_x <= 1 && r->focal_y >= 0 && r->focal_y <= 1 &&
		r->quality <= 100 && (r->blur == 0 || (r->blur >= 0.3f && r->blur <= 100)) &&
		(r->sharpen == 0 || (r->sharpen >= 0.1f && r->sharpen <= 10)) &&
		r->mark_gravity <= NORTHWEST && r->mark_opacity <= 100 && r->mark_scale <= 100 && r->effort <= 9 &&
		r->max_side <= 65535 && r->max_result <= 1u << 28;
}

static int has_all_frames(enum type type)
{
	return type == WEBP || type == GIF;
}

/* A decoder passes over the whole picture in each scan. Coded pixels never look like
 * a marker; a thumbnail in the metadata has a scan or two of its own. */
static uint64_t scans(const uint8_t *bytes, size_t len)
{
	const uint8_t *end = bytes + len;
	uint64_t n = 0;

	for (const uint8_t *at = bytes; (at = memchr(at, 0xff, end - at)) && ++at < end;)
		n += *at == 0xda;
	return n;
}

/* libvips takes a GIF that breaks off for one with fewer frames. A whole one has a
 * trailer where the next block would begin. */
static int gif_is_whole(const uint8_t *bytes, size_t len)
{
	size_t at = 13;

	if (len > 13 && bytes[10] & 0x80)
		at += 6 << (bytes[10] & 7); /* colours */
	while (at < len && bytes[at] != 0x3b) {
		int image = bytes[at] == 0x2c;
		if (image && at + 9 < len && bytes[at + 9] & 0x80)
			at += 6 << (bytes[at + 9] & 7);
		for (at += image ? 11 : 2; at < len && bytes[at]; at += bytes[at] + 1)
			;
		at++;
	}
	return at < len;
}

/* Reads what the response tells of the source, and refuses what is too large. */
static enum status measure(struct job *job, const void *bytes, VipsImage *header)
{
	static const struct {
		int turns, mirror;
	} upright[] = {{0, 0}, {0, 0}, {0, 1}, {2, 0}, {2, 1}, {1, 1}, {1, 0}, {3, 1}, {3, 0}};
	const struct request *r = job->request;
	struct response *source = job->response;
	int pages = vips_image_get_n_pages(header), orientation = vips_image_get_orientation(header);

	source->source_width = header->Xsize;
	source->source_height = vips_image_get_page_height(header);
	source->source_frames = has_all_frames(r->source_type) ? pages : 1;
	source->orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
	source->alpha = vips_image_hasalpha(header);
	job->gray = header->Bands < 3;
	job->turns = upright[source->orientation].turns;
	job->mirror = upright[source->orientation].mirror;
	job->frames = r->flags & KEEP_FRAMES && has_all_frames(r->output) ? source->source_frames : 1;
	uint64_t pixels = (uint64_t)source->source_width * source->source_height * job->frames;
	if (source->source_width > SOURCE_SIDE || source->source_height > SOURCE_SIDE ||
		(uint32_t)job->frames > r->max_frames || pixels > r->max_pixels)
		return TOO_LARGE;
	if (r->source_type == JPEG && scans(bytes, r->source_len) * pixels > (uint64_t)SCANS * r->max_pixels)
		return TOO_LARGE;
	return r->source_type == GIF && !gif_is_whole(bytes, r->source_len) ? BROKEN : OK;
}

/* The crop in the upright source, cut to it. */
static enum status plan_crop(struct job *job, struct rect *crop)
{
	const struct request *r = job->request;
	int swap = job->turns & 1;
	int w = swap ? job->response->source_height : job->response->source_width;
	int h = swap ? job->response->source_width : job->response->source_height;

	*crop = (struct rect){0, 0, w, h};
	if (r->crop_w == 0)
		return OK;
	if (r->crop_h == 0 || r->crop_x >= (uint32_t)w || r->crop_y >= (uint32_t)h)
		return CROP_OUTSIDE;
	crop->x = r->crop_x;
	crop->y = r->crop_y;
	crop->w = VIPS_MIN(r->crop_w, (uint32_t)w - r->crop_x);
	crop->h = VIPS_MIN(r->crop_h, (uint32_t)h - r->crop_y);
	return OK;
}

/* The size of a w x h picture in the box of the request, and of the result. */
static enum status plan_size(struct job *job, int w, int h)
{
	const struct request *r = job->request;
	double x = (double)r->width / w, y = (double)r->height / h, scale = 1;
	int both = r->width && r->height, fit = both ? r->fit : INSIDE;

	if (fit == COVER)
		scale = fmax(x, y);
	else if (fit == OUTSIDE)
		scale = fmin(1, fmax(x, y));
	else if (r->width || r->height)
		scale = fmin(1, both ? fmin(x, y) : x + y); /* one of them is 0 */
	double scaled_w = fmax(1, rint(w * scale)), scaled_h = fmax(1, rint(h * scale));
	if (fit == FILL)
		scaled_w = r->width, scaled_h = r->height;
	if (scaled_w * scaled_h > 4.0 * r->max_result || scaled_w > INT16_MAX || scaled_h > INT16_MAX)
		return RESULT_TOO_LARGE;
	job->scaled_w = scaled_w;
	job->scaled_h = scaled_h;
	job->canvas_w = fit == CONTAIN || fit == COVER ? (int)r->width : job->scaled_w;
	job->canvas_h = fit == CONTAIN || fit == COVER ? (int)r->height : job->scaled_h;
	if (fit == COVER) {
		job->scaled_w = VIPS_MAX(job->scaled_w, job->canvas_w);
		job->scaled_h = VIPS_MAX(job->scaled_h, job->canvas_h);
	}
	if ((uint32_t)VIPS_MAX(job->canvas_w, job->canvas_h) > r->max_side ||
		(uint64_t)job->canvas_w * job->canvas_h * job->frames > r->max_result)
		return RESULT_TOO_LARGE;
	return OK;
}

/* How much the loader may shrink, so that at least twice the size is left to resize
 * well: libjpeg averages blocks. */
static double plan_shrink(const struct job *job, int w, int h)
{
	double factor = fmin((double)w / job->scaled_w, (double)h / job->scaled_h);

	switch (job->request->source_type) {
	case JPEG:
		return factor >= 16 ? 8 : factor >= 8 ? 4 : factor >= 4 ? 2 : 1;
	case WEBP: /* frames of an animation are parts of the picture: their edges would show */
		return job->response->source_frames > 1 ? 1 : fmax(1, factor / 2);
	default:
		return 1;
	}
}

/* From the upright source to the stored one, at the shrink of loading. */
static void plan_stored_crop(struct job *job, const struct rect *upright, VipsImage *stored)
{
	int w = job->response->source_width, h = job->response->source_height;
	int page_h = vips_image_get_page_height(stored);
	struct rect c = *upright, s;

	if (job->mirror)
		c.x = (job->turns & 1 ? h : w) - c.x - c.w;
	switch (job->turns) {
	case 1:
		s = (struct rect){c.y, h - c.x - c.w, c.h, c.w};
		break;
	case 2:
		s = (struct rect){w - c.x - c.w, h - c.y - c.h, c.w, c.h};
		break;
	case 3:
		s = (struct rect){w - c.y - c.h, c.x, c.h, c.w};
		break;
	default:
		s = c;
	}
	double x = (double)stored->Xsize / w, y = (double)page_h / h;
	int left = s.x * x, top = s.y * y;
	job->crop = (struct rect){left, top, VIPS_CLIP(1, rint(s.w * x), stored->Xsize - left),
		VIPS_CLIP(1, rint(s.h * y), page_h - top)};
}

static enum status plan(struct job *job, const void *bytes, VipsImage **stored)
{
	const struct request *r = job->request;
	enum status status;
	struct rect crop;
	int all;

	if (!(*stored = load(r->source_type, bytes, r->source_len, 1, 1)))
		return load_error();
	if ((status = measure(job, bytes, *stored)) || (status = plan_crop(job, &crop)) ||
		(status = r->rotate & 1 ? plan_size(job, crop.h, crop.w) : plan_size(job, crop.w, crop.h)))
		return status;
	job->shrink = r->rotate & 1 ? plan_shrink(job, crop.h, crop.w) : plan_shrink(job, crop.w, crop.h);
	all = job->frames > 1;
	if (job->shrink > 1 || all) {
		g_object_unref(*stored);
		if (!(*stored = load(r->source_type, bytes, r->source_len, job->shrink, all ? -1 : 1)))
			return load_error();
	}
	if (all && (*stored)->Ysize / vips_image_get_page_height(*stored) < job->frames)
		return BROKEN;
	plan_stored_crop(job, &crop, *stored);
	colours_describe(*stored, r->source_colours);
	return OK;
}

/* --- the operations --- */

static int premultiply(VipsImage **image)
{
	VipsImage *next;

	return replace(image, vips_premultiply(*image, &next, NULL), &next);
}

static int unpremultiply(VipsImage **image, VipsBandFormat format)
{
	VipsImage *next;

	if (replace(image, vips_unpremultiply(*image, &next, NULL), &next))
		return -1;
	return replace(image, vips_cast(*image, &next, format, NULL), &next);
}

static int resize(VipsImage **image, int w, int h)
{
	VipsBandFormat format = (*image)->BandFmt;
	int alpha = vips_image_hasalpha(*image);
	double x = (double)w / (*image)->Xsize, y = (double)h / (*image)->Ysize;
	VipsImage *next;

	if (x == 1 && y == 1)
		return 0;
	if (alpha && premultiply(image))
		return -1;
	if (replace(image, vips_resize(*image, &next, x, "vscale", y, NULL), &next))
		return -1;
	return alpha ? unpremultiply(image, format) : 0;
}

/* To 8-bit sRGB with three bands, and alpha if there was one. */
static int to_srgb(VipsImage **image)
{
	VipsImage *next;

	if (vips_image_get_typeof(*image, VIPS_META_ICC_NAME)) {
		if (!vips_icc_transform(*image, &next, "srgb", "embedded", TRUE, "depth", 8, "intent", VIPS_INTENT_RELATIVE, NULL))
			return replace(image, 0, &next);
		vips_error_clear(); /* a profile that cannot be used counts as absent */
	}
	if (replace(image, vips_colourspace(*image, &next, VIPS_INTERPRETATION_sRGB, NULL), &next))
		return -1;
	return replace(image, vips_cast(*image, &next, VIPS_FORMAT_UCHAR, NULL), &next);
}

static int turn(VipsImage **image, int turns)
{
	static const VipsAngle angles[] = {VIPS_ANGLE_D0, VIPS_ANGLE_D90, VIPS_ANGLE_D180, VIPS_ANGLE_D270};
	VipsImage *next;

	return turns ? replace(image, vips_rot(*image, &next, angles[turns], NULL), &next) : 0;
}

static int mirror(VipsImage **image, VipsDirection direction)
{
	VipsImage *next;

	return replace(image, vips_flip(*image, &next, direction, NULL), &next);
}

/* By EXIF, then as asked. Needs every pixel before the first of the result. */
static int orient(const struct job *job, VipsImage **image)
{
	const struct request *r = job->request;

	if (!(job->turns || job->mirror || r->rotate || r->flip))
		return 0;
	if (in_memory(image) || turn(image, job->turns))
		return -1;
	if (job->mirror && mirror(image, VIPS_DIRECTION_HORIZONTAL))
		return -1;
	if (turn(image, r->rotate))
		return -1;
	if (r->flip & HORIZONTAL && mirror(image, VIPS_DIRECTION_HORIZONTAL))
		return -1;
	return r->flip & VERTICAL ? mirror(image, VIPS_DIRECTION_VERTICAL) : 0;
}

/* Where a part of a size lies in a whole by a gravity, on one axis: the parts of
 * the word that pull to the beginning, and to the end. */
static void place(enum gravity gravity, int slack_x, int slack_y, int *x, int *y)
{
	int west = gravity >= SOUTHWEST && gravity <= NORTHWEST, east = gravity >= NORTHEAST && gravity <= SOUTHEAST;
	int north = gravity == NORTH || gravity == NORTHEAST || gravity == NORTHWEST;
	int south = gravity >= SOUTHEAST && gravity <= SOUTHWEST;

	*x = west ? 0 : east ? slack_x : slack_x / 2;
	*y = north ? 0 : south ? slack_y : slack_y / 2;
}

static int cover(struct job *job, VipsImage **image)
{
	const struct request *r = job->request;
	int w = job->canvas_w, h = job->canvas_h, slack_x = (*image)->Xsize - w, slack_y = (*image)->Ysize - h, x, y;
	VipsImage *next;

	if (slack_x <= 0 && slack_y <= 0)
		return 0;
	place(r->gravity, slack_x, slack_y, &x, &y);
	if (r->gravity == FOCAL_POINT) {
		x = VIPS_CLIP(0, rint(r->focal_x * (*image)->Xsize - w / 2.0), slack_x);
		y = VIPS_CLIP(0, rint(r->focal_y * (*image)->Ysize - h / 2.0), slack_y);
	}
	if (r->gravity == SMART && job->smart_x < 0) { /* all frames are cut as the first */
		if (in_memory(image) || vips_smartcrop(*image, &next, w, h, "interesting", VIPS_INTERESTING_ATTENTION, NULL))
			return -1;
		job->smart_x = -next->Xoffset;
		job->smart_y = -next->Yoffset;
		g_object_unref(next);
	}
	if (r->gravity == SMART) {
		x = job->smart_x;
		y = job->smart_y;
	}
	return replace(image, vips_extract_area(*image, &next, x, y, w, h, NULL), &next);
}

/* Paints the colour below the transparent pixels of the picture. */
static int paint_below(VipsImage **image, const double *rgba)
{
	VipsImage *color, *next;
	int failed;

	if (!(color = vips_image_new_from_image(*image, rgba, 4)))
		return -1;
	failed = vips_composite2(color, *image, &next, VIPS_BLEND_MODE_OVER, NULL);
	g_object_unref(color);
	if (replace(image, failed, &next))
		return -1;
	return replace(image, vips_cast(*image, &next, VIPS_FORMAT_UCHAR, NULL), &next);
}

static int flatten(VipsImage **image, const double *rgba)
{
	VipsArrayDouble *below;
	VipsImage *next;
	int failed;

	if (!vips_image_hasalpha(*image))
		return 0;
	below = vips_array_double_new(rgba, 3);
	failed = vips_flatten(*image, &next, "background", below, NULL);
	vips_area_unref(VIPS_AREA(below));
	return replace(image, failed, &next);
}

static int pad(const struct job *job, VipsImage **image, const double *rgba)
{
	VipsArrayDouble *around;
	VipsImage *next;
	int x, y, failed;

	if ((*image)->Xsize >= job->canvas_w && (*image)->Ysize >= job->canvas_h)
		return 0;
	if (rgba[3] < 255 && !vips_image_hasalpha(*image) && replace(image, vips_addalpha(*image, &next, NULL), &next))
		return -1;
	if (replace(image, vips_cast(*image, &next, VIPS_FORMAT_UCHAR, NULL), &next))
		return -1;
	place(job->request->gravity, job->canvas_w - (*image)->Xsize, job->canvas_h - (*image)->Ysize, &x, &y);
	around = vips_array_double_new(rgba, (*image)->Bands);
	failed = vips_embed(*image, &next, x, y, job->canvas_w, job->canvas_h, "extend", VIPS_EXTEND_BACKGROUND,
		"background", around, NULL);
	vips_area_unref(VIPS_AREA(around));
	return replace(image, failed, &next);
}

static int background(const struct job *job, VipsImage **image)
{
	static const double white[] = {255, 255, 255, 255}, transparent[] = {0, 0, 0, 0};
	const struct request *r = job->request;
	double given[] = {r->background[0], r->background[1], r->background[2], r->background[3]};
	int alpha = vips_image_hasalpha(*image), opaque = r->output == JPEG || r->output == RAW;

	if (r->flags & BACKGROUND && alpha && given[3] > 0 &&
		(given[3] == 255 ? flatten(image, given) : paint_below(image, given)))
		return -1;
	if (pad(job, image, r->flags & BACKGROUND ? given : alpha ? transparent : white))
		return -1;
	return opaque ? flatten(image, white) : 0;
}

static int blur(VipsImage **image, double sigma)
{
	VipsBandFormat format = (*image)->BandFmt;
	int alpha = vips_image_hasalpha(*image);
	VipsImage *next;

	if (alpha && (premultiply(image) || replace(image, vips_cast(*image, &next, format, NULL), &next))) /* float takes ten times as long */
		return -1;
	if (replace(image, vips_gaussblur(*image, &next, sigma, NULL), &next))
		return -1;
	return alpha ? unpremultiply(image, format) : 0;
}

static int effects(const struct job *job, VipsImage **image)
{
	const struct request *r = job->request;
	VipsImage *next;

	if (r->blur > 0 && blur(image, r->blur))
		return -1;
	if (r->sharpen > 0 && replace(image, vips_sharpen(*image, &next, "sigma", (double)r->sharpen, NULL), &next))
		return -1;
	if (r->flags & GRAY && replace(image, vips_colourspace(*image, &next, VIPS_INTERPRETATION_B_W, NULL), &next))
		return -1;
	if (r->flags & GRAY && (job->mark || r->output == RAW) && replace(image, vips_colourspace(*image, &next, VIPS_INTERPRETATION_sRGB, NULL), &next))
		return -1;
	return 0;
}

/* --- frames --- */

static int stamp(const struct job *job, VipsImage **image)
{
	const struct request *r = job->request;
	int w = job->mark->Xsize, h = job->mark->Ysize, bands = (*image)->Bands, x, y, failed;
	VipsImage *part, *next;

	if (in_memory(image)) /* a part is read twice */
		return -1;
	place(r->mark_gravity, job->canvas_w - w, job->canvas_h - h, &x, &y);
	if (vips_extract_area(*image, &part, x, y, w, h, NULL))
		return -1;
	failed = replace(&part, vips_composite2(part, job->mark, &next, VIPS_BLEND_MODE_OVER, NULL), &next) ||
		replace(&part, vips_extract_band(part, &next, 0, "n", bands, NULL), &next) ||
		replace(&part, vips_cast(part, &next, VIPS_FORMAT_UCHAR, NULL), &next) ||
		replace(image, vips_insert(*image, part, &next, x, y, NULL), &next);
	g_object_unref(part);
	return failed ? -1 : 0;
}

static int draw(struct job *job, VipsImage *stored, int frame, VipsImage **image)
{
	const struct request *r = job->request;
	const struct rect *crop = &job->crop;
	int turned = (job->turns + r->rotate) & 1;
	VipsImage *next;

	if (vips_extract_area(stored, image, crop->x, frame * vips_image_get_page_height(stored) + crop->y, crop->w, crop->h, NULL))
		return -1;
	vips_image_remove(*image, VIPS_META_PAGE_HEIGHT);
	if (resize(image, turned ? job->scaled_h : job->scaled_w, turned ? job->scaled_w : job->scaled_h) ||
		to_srgb(image) || orient(job, image) || cover(job, image) || background(job, image) || effects(job, image))
		return -1;
	if (job->mark && stamp(job, image))
		return -1;
	if (job->gray && !job->mark && !(r->flags & BACKGROUND) && r->output != RAW && (*image)->Bands >= 3 &&
		replace(image, vips_colourspace(*image, &next, VIPS_INTERPRETATION_B_W, NULL), &next))
		return -1;
	return in_memory(image);
}

/* All frames below one another, which is how libvips holds an animation. */
static int draw_all(struct job *job, VipsImage *stored, VipsImage **image)
{
	VipsImage **frames = g_new0(VipsImage *, job->frames);
	int failed = 0;

	for (int i = 0; i < job->frames && !failed; i++)
		failed = draw(job, stored, i, &frames[i]);
	if (!failed)
		failed = vips_arrayjoin(frames, image, job->frames, "across", 1, NULL);
	for (int i = 0; i < job->frames; i++)
		VIPS_UNREF(frames[i]);
	g_free(frames);
	if (!failed)
		vips_image_set_int(*image, VIPS_META_PAGE_HEIGHT, job->canvas_h);
	return failed;
}

/* Draws the mark as an ordinary picture, then gives it size, alpha and opacity. */
static enum status load_mark(struct job *job, const void *bytes)
{
	const struct request *r = job->request;
	struct response unused = {0};
	struct request plain = {.source_type = r->mark_type, .source_len = r->mark_len, .output = PNG, .max_frames = 1,
		.source_colours = r->mark_colours, .max_pixels = r->max_pixels, .max_side = SOURCE_SIDE, .max_result = r->max_pixels, .flags = 0};
	struct job mark = {.request = &plain, .response = &unused};
	VipsImage *stored = NULL, *next;
	enum status status = plan(&mark, bytes, &stored);
	int failed = status || draw(&mark, stored, 0, &job->mark);
	double w, h, opacity[] = {1, 1, 1, r->mark_opacity / 100.0}, zero[] = {0, 0, 0, 0};

	VIPS_UNREF(stored);
	if (failed)
		return status ? status : BROKEN;
	w = r->mark_scale ? job->canvas_w * r->mark_scale / 100.0 : fmin(job->mark->Xsize, job->canvas_w / 4.0);
	h = w * job->mark->Ysize / job->mark->Xsize;
	if (h > job->canvas_h)
		w *= job->canvas_h / h, h = job->canvas_h;
	if (resize(&job->mark, fmax(1, rint(w)), fmax(1, rint(h))) ||
		replace(&job->mark, vips_colourspace(job->mark, &next, VIPS_INTERPRETATION_sRGB, NULL), &next) ||
		(!vips_image_hasalpha(job->mark) && replace(&job->mark, vips_addalpha(job->mark, &next, NULL), &next)) ||
		replace(&job->mark, vips_linear(job->mark, &next, opacity, zero, 4, "uchar", TRUE, NULL), &next) ||
		in_memory(&job->mark))
		return BROKEN;
	w = job->mark->Xsize, h = job->mark->Ysize;
	if (r->flags & TILE && (replace(&job->mark, vips_replicate(job->mark, &next, ceil(job->canvas_w / w), ceil(job->canvas_h / h), NULL), &next) ||
		replace(&job->mark, vips_extract_area(job->mark, &next, 0, 0, job->canvas_w, job->canvas_h, NULL), &next)))
		return BROKEN;
	return OK;
}

/* --- the result --- */

static void drop_metadata(VipsImage *image, int copyright)
{
	const char *const kept[] = {VIPS_META_PAGE_HEIGHT, "delay", "loop", copyright ? "exif-ifd0-Copyright" : NULL, "exif-ifd0-Artist", NULL};
	char **names = vips_image_get_fields(image);

	for (char **name = names; *name; name++)
		if (!g_strv_contains(kept, *name))
			vips_image_remove(image, *name); /* does nothing to width, height and their like */
	g_strfreev(names);
}

static int encode(const struct request *r, VipsImage *image, void **body, size_t *len)
{
#if VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION < 15
#define KEEP "strip", !(r->flags & KEEP_COPYRIGHT)
#else
#define KEEP "keep", r->flags & KEEP_COPYRIGHT ? VIPS_FOREIGN_KEEP_EXIF : VIPS_FOREIGN_KEEP_NONE
#endif
	int quality = r->quality ? r->quality : r->output == AVIF ? 62 : r->output == WEBP ? 75 : 80;

	switch (r->output) {
	case JPEG:
		return vips_jpegsave_buffer(image, body, len, "Q", quality, "optimize_coding", TRUE, KEEP, NULL);
	case PNG:
		return vips_pngsave_buffer(image, body, len, "filter", VIPS_FOREIGN_PNG_FILTER_ALL, KEEP, NULL);
	case WEBP:
		return vips_webpsave_buffer(image, body, len, "Q", quality, KEEP, NULL);
	case GIF:
		return vips_gifsave_buffer(image, body, len, "effort", 3, KEEP, NULL);
	case AVIF:
		return vips_heifsave_buffer(image, body, len, "Q", quality, "compression", VIPS_FOREIGN_HEIF_COMPRESSION_AV1,
			"effort", (int)r->effort, "bitdepth", 8, KEEP, NULL);
	default:
		return !(*body = vips_image_write_to_memory(image, len));
	}
#undef KEEP
}

static enum status transform(struct job *job, const void *source, const void *mark, VipsImage **stored, void **body)
{
	struct response *response = job->response;
	gint64 began = g_get_monotonic_time(), drawn;
	VipsImage *image = NULL;
	size_t len = 0;
	enum status status = plan(job, source, stored);
	int failed;

	if (!status && job->request->mark_len)
		status = load_mark(job, mark);
	if (status)
		return status;
	failed = job->frames > 1 ? draw_all(job, *stored, &image) : draw(job, *stored, 0, &image);
	drawn = g_get_monotonic_time();
	response->decode_us = drawn - began;
	if (failed) {
		VIPS_UNREF(image);
		return load_error();
	}
	drop_metadata(image, job->request->flags & KEEP_COPYRIGHT);
	failed = encode(job->request, image, body, &len);
	g_object_unref(image);
	response->encode_us = g_get_monotonic_time() - drawn;
	if (failed)
		return INTERNAL;
	if (len > job->request->max_output)
		return RESULT_TOO_LARGE;
	response->body_len = len;
	response->width = job->canvas_w;
	response->height = job->canvas_h;
	response->frames = job->frames;
	return OK;
}

enum status picture_transform(const struct request *request, const void *source, const void *mark,
	struct response *response, void **body)
{
	struct job job = {.request = request, .response = response, .smart_x = -1};
	VipsImage *stored = NULL;
	enum status status = valid(request) ? transform(&job, source, mark, &stored, body) : INTERNAL;

	VIPS_UNREF(job.mark);
	VIPS_UNREF(stored);
	vips_error_clear();
	return status;
}
