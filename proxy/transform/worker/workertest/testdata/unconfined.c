/* Stands in for sandbox.c where a sanitizer needs files and address space of its
 * own. The ready frame names no Landlock, so ixmage refuses such a worker. */
#include "../../worker.h"

void sandbox(struct ready *ready) { (void)ready; }
