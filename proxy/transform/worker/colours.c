/* Makes an ICC profile of colours that a file gives by numbers (ITU-T H.273, CICP):
 * libvips reads profiles only. */
#include <math.h>
#include <string.h>

#include <vips/vips.h>

#include "worker.h"

enum primaries { BT2020 = 9, DISPLAY_P3 = 12 };
enum transfer { GAMMA22 = 4, GAMMA28 = 5, LINEAR = 8, BT2020_10 = 14, BT2020_12 = 15, PQ = 16, HLG = 18 };

enum {
	CURVE = 1024, /* points of a curve */
	TAGS = 7,
	XYZ = 20,     /* bytes of a tag with one colour */
	HEAD = 128 + 4 + TAGS * 12,
	CURVE_AT = HEAD + 4 * XYZ,
	SIZE = CURVE_AT + 12 + 2 * CURVE,
};

/* White, red, green and blue, adapted to D50. */
static const double white[3] = {0.9642, 1, 0.8249};
static const double srgb[3][3] = {{0.43607, 0.22249, 0.01392}, {0.38515, 0.71687, 0.09708}, {0.14307, 0.06061, 0.71410}};
static const double p3[3][3] = {{0.51510, 0.24118, -0.00105}, {0.29197, 0.69224, 0.04188}, {0.15715, 0.06658, 0.78438}};
static const double bt2020[3][3] = {{0.67346, 0.27903, -0.00193}, {0.16566, 0.67534, 0.02998}, {0.12510, 0.04563, 0.79716}};

/* Light beyond white for a screen that has none: 1000 cd/m2 become white, and diffuse
 * white, 203 cd/m2 (ITU-R BT.2408), about half of that. Browsers do the same, but keep
 * hues better: here each of red, green and blue is bent on its own. */
static double tone(double nits)
{
	double light = nits / 203, most = 1000.0 / 203;

	return fmin(1, light * (1 + light / (most * most)) / (1 + light));
}

static double pq(double v)
{
	double p = pow(v, 1 / 78.84375);

	return 10000 * pow(fmax(0, p - 0.8359375) / (18.8515625 - 18.6875 * p), 1 / 0.1593017578125);
}

static double hlg(double v)
{
	double scene = v <= 0.5 ? v * v / 3 : (exp((v - 0.55991073) / 0.17883277) + 0.28466892) / 12;

	return 1000 * pow(scene, 1.2);
}

/* The light of a value, both from 0 to 1. Curves that are almost that of sRGB count as
 * it, as in browsers. */
static double linear(enum transfer transfer, double v)
{
	switch (transfer) {
	case GAMMA22:
		return pow(v, 2.2);
	case GAMMA28:
		return pow(v, 2.8);
	case LINEAR:
		return v;
	case BT2020_10:
	case BT2020_12:
		return v < 0.081 ? v / 4.5 : pow((v + 0.0993) / 1.0993, 1 / 0.45);
	case PQ:
		return tone(pq(v));
	case HLG:
		return tone(hlg(v));
	default:
		return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
	}
}

static void put(uint8_t *at, int bytes, uint32_t n)
{
	while (bytes--)
		at[bytes] = n, n >>= 8;
}

static void put_xyz(uint8_t *at, const double *xyz)
{
	for (int i = 0; i < 3; i++)
		put(at + 4 * i, 4, (int32_t)lrint(xyz[i] * 65536));
}

void colours_describe(VipsImage *image, struct cicp colours)
{
	static const char *const names[TAGS] = {"wtpt", "rXYZ", "gXYZ", "bXYZ", "rTRC", "gTRC", "bTRC"};
	const double(*primaries)[3] = colours.primaries == BT2020 ? bt2020 : colours.primaries == DISPLAY_P3 ? p3 : srgb;
	uint8_t profile[SIZE] = {0};

	if (!colours.primaries && !colours.transfer)
		return;
	put(profile, 4, SIZE);
	put(profile + 8, 4, 0x04000000); /* version */
	memcpy(profile + 12, "mntrRGB XYZ ", 12);
	memcpy(profile + 36, "acsp", 4);
	put_xyz(profile + 68, white);
	put(profile + 128, 4, TAGS);
	for (int i = 0; i < TAGS; i++) {
		int at = i < 4 ? HEAD + i * XYZ : CURVE_AT;
		memcpy(profile + 132 + 12 * i, names[i], 4);
		put(profile + 136 + 12 * i, 4, at);
		put(profile + 140 + 12 * i, 4, i < 4 ? XYZ : SIZE - CURVE_AT);
		if (i < 4) {
			memcpy(profile + at, "XYZ ", 4);
			put_xyz(profile + at + 8, i == 0 ? white : primaries[i - 1]);
		}
	}
	memcpy(profile + CURVE_AT, "curv", 4);
	put(profile + CURVE_AT + 8, 4, CURVE);
	for (int i = 0; i < CURVE; i++)
		put(profile + CURVE_AT + 12 + 2 * i, 2, lrint(65535 * linear(colours.transfer, i / (CURVE - 1.0))));
	vips_image_set_blob_copy(image, VIPS_META_ICC_NAME, profile, SIZE);
}
