/* ixmage-worker: turns a picture into another. It answers requests on stdin with
 * responses on stdout, one after the other, until stdin ends. It has no arguments
 * and no environment, and after its first frame no files and no network. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vips/vips.h>

#include "worker.h"

enum {
	SOURCE_MAX = 64 << 20, /* bytes; the parent's limits are lower */
	JOB_CPU = 30,          /* seconds, for a parent that does not kill at its deadline */
};

static void fail(const char *what)
{
	fprintf(stderr, "ixmage-worker: %s\n", what);
	_exit(4);
}

/* Reads exactly len bytes. Returns 0 if the input ends before the first, and ends the
 * process if it ends later. */
static int read_all(void *to, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(STDIN_FILENO, (char *)to + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail("reading the request failed");
		if (n == 0 && done == 0)
			return 0;
		if (n == 0)
			fail("the input ended within a request");
		done += n;
	}
	return 1;
}

static void write_all(const void *from, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(STDOUT_FILENO, (const char *)from + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail("writing the response failed");
		done += n;
	}
}

static void *read_bytes(size_t len)
{
	void *bytes = malloc(len ? len : 1);

	if (!bytes)
		fail("no memory for the source");
	if (len && !read_all(bytes, len))
		fail("the input ended within a request");
	return bytes;
}

/* RLIMIT_CPU counts from the start of the process. */
static void limit_cpu(void)
{
	struct rlimit cpu = {JOB_CPU, RLIM_INFINITY};
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	cpu.rlim_cur += usage.ru_utime.tv_sec + usage.ru_stime.tv_sec;
	setrlimit(RLIMIT_CPU, &cpu);
}

static void serve(const struct request *request)
{
	struct response response = {.magic = RESPONSE_MAGIC, .number = request->number};
	void *source = read_bytes(request->source_len), *mark = read_bytes(request->mark_len), *body = NULL;

	limit_cpu();
	response.status = picture_transform(request, source, mark, &response, &body);
	if (response.status != OK)
		response.body_len = 0;
	write_all(&response, sizeof response);
	write_all(body, response.body_len);
	g_free(body);
	free(mark);
	free(source);
}

int main(void)
{
	struct ready ready = {.magic = READY_MAGIC, .abi = 2};
	struct request request;

	clearenv();
	mallopt(M_ARENA_MAX, 1);
#if VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION < 15
	/* Older libvips has parts in files of their own, which it loads here, and writes
	 * machine code unless it is told not to. */
	setenv("VIPS_NOVECTOR", "1", 1), setenv("ORC_CODE", "emulate", 1);
	if (vips_init("ixmage-worker"))
		fail("libvips does not start");
#endif
	sandbox(&ready);
	if (vips_init("ixmage-worker"))
		fail("libvips does not start");
	picture_start();
	snprintf(ready.version, sizeof ready.version, "%d.%d.%d", vips_version(0), vips_version(1), vips_version(2));
	write_all(&ready, sizeof ready);
	while (read_all(&request, sizeof request)) {
		if (request.magic != REQUEST_MAGIC || request.source_len > SOURCE_MAX || request.mark_len > SOURCE_MAX)
			fail("the input is no request");
		serve(&request);
	}
	return 0;
}
