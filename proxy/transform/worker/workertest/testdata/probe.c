/* Tries from inside the worker's sandbox what a picture that has taken over the
 * worker would try, and runs the worker on kernels that lack a part of it.
 *
 *   probe all ACTION           in the whole sandbox
 *   probe landlock ACTION      with Landlock alone
 *   probe without CALL PROGRAM runs the program where the system call fails
 */
#include "../../sandbox.c"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>

static pid_t parent, self;

static long try_open(const char *path, int flags) { return syscall(__NR_openat, AT_FDCWD, path, flags, 0600); }

static long try_connect(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return fd < 0 ? fd : connect(fd, (struct sockaddr *)&to, sizeof to);
}

static long try_vm(int nr)
{
	static char mine[16];
	struct iovec local = {mine, sizeof mine}, remote = {mine, sizeof mine};

	return syscall(nr, parent, &local, 1, &remote, 1, 0);
}

static long try_clone3(void)
{
	uint64_t args[11] = {0};

	return syscall(435, args, sizeof args);
}

static long try_mprotect(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return syscall(__NR_mprotect, page, 4096, PROT_READ | PROT_EXEC);
}

static long try_limit(pid_t of, int resource)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

	return syscall(__NR_prlimit64, of, resource, &limit, NULL);
}

#ifdef __x86_64__
static long try_32_bits(void)
{
	long result;

	asm volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid */
	return result;
}
#endif

static long try_memory(void)
{
	return syscall(__NR_mmap, NULL, (size_t)2 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

#define ACTIONS(X) \
	X("read a file", try_open("/etc/passwd", O_RDONLY)) \
	X("write a file", try_open("/tmp/ixmage-probe", O_WRONLY | O_CREAT)) \
	X("list a folder", try_open("/", O_RDONLY | O_DIRECTORY)) \
	X("read memory of the parent", try_open("/proc/1/mem", O_RDONLY)) \
	X("connect", try_connect()) \
	X("socket", socket(AF_INET, SOCK_DGRAM, 0)) \
	X("unix socket", socket(AF_UNIX, SOCK_STREAM, 0)) \
	X("socket pair", socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0})) \
	X("fork", syscall(__NR_clone, SIGCHLD, 0, 0, 0, 0)) \
	X("fork by clone3", try_clone3()) \
	X("exec", execv("/bin/true", (char *[]){"true", NULL})) \
	X("trace the parent", ptrace(PTRACE_ATTACH, parent, 0, 0)) \
	X("read another process", try_vm(__NR_process_vm_readv)) \
	X("write another process", try_vm(__NR_process_vm_writev)) \
	X("kill the parent", syscall(__NR_kill, parent, 0)) \
	X("kill all", syscall(__NR_kill, -1, 0)) \
	X("signal a thread of the parent", syscall(__NR_tgkill, parent, parent, 0)) \
	X("signal itself", syscall(__NR_tgkill, self, self, 0)) \
	X("writable code", mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0) \
	X("code from data", try_mprotect()) \
	X("file in memory", syscall(__NR_memfd_create, "x", 0)) \
	X("io_uring", syscall(425, 1, (char[256]){0})) \
	X("namespaces", syscall(__NR_unshare, CLONE_NEWUSER)) \
	X("raise its memory", try_limit(0, RLIMIT_AS)) \
	X("raise its processor time", try_limit(0, RLIMIT_CPU)) \
	X("limit the processor time of the parent", try_limit(parent, RLIMIT_CPU)) \
	X("2 GiB", try_memory()) \
	X("a debuggable process", prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)) \
	X("an unknown call", syscall(999)) \
	MORE_ACTIONS(X)

#ifdef __x86_64__
#define MORE_ACTIONS(X) \
	X("a call of 32 bits", try_32_bits()) \
	X("a call of x32", syscall(0x40000000 + __NR_getpid))
#else
#define MORE_ACTIONS(X)
#endif

static long act(const char *action)
{
#define ACTION(name, call) if (!strcmp(action, name)) return call;
	ACTIONS(ACTION)
	fprintf(stderr, "unknown action %s\n", action);
	_exit(2);
}

static int without(const char *call, char **program)
{
	struct sock_fprog filters = {0, filter};
	int nr = !strcmp(call, "landlock") ? __NR_landlock_create_ruleset :
		!strcmp(call, "restriction") ? __NR_landlock_restrict_self :
		!strcmp(call, "close_range") ? __NR_close_range : !strcmp(call, "limits") ? __NR_prlimit64 :
		!strcmp(call, "prctl") ? __NR_prctl : __NR_seccomp;

	emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
	emit_call(nr, SECCOMP_RET_ERRNO | ENOSYS);
	emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
	filters.len = filter_len;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filters))
		return perror("seccomp"), 2;
	execv(program[0], program);
	return perror(program[0]), 2;
}

int main(int argc, char **argv)
{
	struct ready ready = {0};
	long result;

	if (argc >= 4 && !strcmp(argv[1], "without"))
		return without(argv[2], argv + 3);
	if (argc != 3)
		return 2;
	parent = getppid();
	self = getpid();
	if (!strcmp(argv[1], "landlock")) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		landlock(&ready);
	} else {
		sandbox(&ready);
	}
	errno = 0;
	result = act(argv[2]);
	const char *text = result == -1 ? strerror(errno) : "done";
	return write(1, text, strlen(text)) < 0;
}
