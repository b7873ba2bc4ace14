/* Says which loaders and savers of libvips can still be used after picture_start. */
#include <stdio.h>

#include <vips/vips.h>

#include "../../worker.h"

static void *usable(GType type, void *unused)
{
	VipsOperationClass *class = VIPS_OPERATION_CLASS(g_type_class_ref(type));

	(void)unused;
	if (!G_TYPE_IS_ABSTRACT(type) && !(class->flags & VIPS_OPERATION_BLOCKED))
		printf("%s\n", VIPS_OBJECT_CLASS(class)->nickname);
	return NULL;
}

int main(void)
{
	if (vips_init("loaders"))
		return 1;
	picture_start();
	vips_type_map_all(g_type_from_name("VipsForeign"), usable, NULL);
	return 0;
}
