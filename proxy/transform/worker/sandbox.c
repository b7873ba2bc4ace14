/* Confines the worker before it sees a byte of a picture. Every part must succeed,
 * or the worker does not start. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "the sandbox knows the system calls of x86-64 and arm64 only"
#endif

/* Newer than the headers of some systems that build the worker. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#ifndef __NR_close_range
#define __NR_close_range 436
#endif
#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_restrict_self 446
#endif

static void must(int ok, const char *part)
{
	if (ok)
		return;
	fprintf(stderr, "ixmage-worker: the sandbox cannot be set up: %s: %s; see docs/transforms.md\n", part, strerror(errno));
	_exit(3);
}

/* A lower limit that the parent has set stays. */
static void limit(int resource, rlim_t most, const char *part)
{
	struct rlimit now;

	must(!getrlimit(resource, &now), part);
	if (now.rlim_max > most)
		now.rlim_max = most;
	if (now.rlim_cur > now.rlim_max)
		now.rlim_cur = now.rlim_max;
	must(!setrlimit(resource, &now), part);
}

/* NPROC is not among them: it counts the threads of the user in all processes, so
 * the load of another would decide whether a picture can be drawn. seccomp refuses
 * processes, and AS bounds the stacks of threads. */
static void limits(void)
{
	limit(RLIMIT_AS, (rlim_t)1 << 30, "limit of the address space");
	limit(RLIMIT_CORE, 0, "limit of core files");
	limit(RLIMIT_FSIZE, 0, "limit of the size of files");
	limit(RLIMIT_NOFILE, 3, "limit of open files");
	limit(RLIMIT_MEMLOCK, 0, "limit of locked memory");
	limit(RLIMIT_MSGQUEUE, 0, "limit of message queues");
}

/* No rule is added, so every access that the kernel knows is refused. */
static void landlock(struct ready *ready)
{
	/* Rights by ABI: files, references to other folders, truncate, network, ioctl, scopes. */
	static const uint64_t files[] = {0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff};
	struct {
		uint64_t files, network, scopes;
	} refused = {0};
	long abi = syscall(__NR_landlock_create_ruleset, NULL, 0, 1 /* VERSION */);
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	int ruleset;

	must(abi >= 1, "Landlock is absent or switched off");
	refused.files = files[abi < 5 ? abi : 5];
	if (abi >= 4) {
		refused.network = 3; /* bind and connect of TCP */
		ready->flags |= CONFINED_NETWORK;
	}
	if (abi >= 6) {
		refused.scopes = 3; /* abstract sockets and signals */
		ready->flags |= CONFINED_SCOPES;
	}
	ruleset = syscall(__NR_landlock_create_ruleset, &refused, size, 0);
	must(ruleset >= 0, "Landlock's ruleset");
	must(!syscall(__NR_landlock_restrict_self, ruleset, 0), "Landlock's restriction");
	close(ruleset);
	ready->landlock = abi;
}

/* What libvips, its codecs, the allocator and threads need. */
static const int allowed[] = {
	__NR_read, __NR_write, __NR_futex, __NR_munmap, __NR_brk, __NR_madvise, __NR_mremap,
	__NR_clock_gettime, __NR_clock_nanosleep, __NR_nanosleep, __NR_gettimeofday, __NR_getrusage,
	__NR_rt_sigprocmask, __NR_rt_sigaction, __NR_rt_sigreturn, __NR_sigaltstack,
	__NR_set_robust_list, __NR_rseq, __NR_sched_yield, __NR_sched_getaffinity, __NR_getcpu,
	__NR_getpid, __NR_gettid, __NR_getrandom, __NR_sysinfo, __NR_membarrier, __NR_restart_syscall,
	__NR_close, __NR_exit, __NR_exit_group,
};

/* No picture needs these: a call means that a picture has taken over the worker, which
 * ends at once with SIGSYS. The parent counts that. Every other call fails with ENOSYS,
 * as on a kernel without it: libraries open files that they can do without. */
static const int deadly[] = {
	__NR_execve, __NR_execveat, __NR_ptrace, __NR_process_vm_readv, __NR_process_vm_writev,
	__NR_socket, __NR_socketpair, __NR_connect, __NR_bind, __NR_listen, __NR_accept, __NR_accept4,
	__NR_sendto, __NR_sendmsg, __NR_sendmmsg, __NR_recvfrom, __NR_recvmsg, __NR_recvmmsg,
	__NR_kill, __NR_tkill, __NR_rt_sigqueueinfo, __NR_rt_tgsigqueueinfo,
	424 /* pidfd_send_signal */, 425 /* io_uring_setup */, 434 /* pidfd_open */, 438 /* pidfd_getfd */,
	__NR_unshare, __NR_setns, __NR_mount, __NR_umount2, __NR_pivot_root, __NR_chroot,
	__NR_bpf, __NR_perf_event_open, __NR_userfaultfd, __NR_keyctl, __NR_add_key, __NR_request_key,
	__NR_init_module, __NR_finit_module, __NR_open_by_handle_at, __NR_memfd_create,
#ifdef __x86_64__
	__NR_fork, __NR_vfork,
#endif
};

static struct sock_filter filter[256];
static unsigned short filter_len;

static void emit(uint16_t code, uint8_t yes, uint8_t no, uint32_t k)
{
	must(filter_len < sizeof filter / sizeof *filter, "length of the filter of system calls");
	filter[filter_len++] = (struct sock_filter){code, yes, no, k};
}

static void emit_call(int nr, uint32_t action)
{
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, nr);
	emit(BPF_RET | BPF_K, 0, 0, action);
}

/* Allows the call if the lower half of the argument, masked, has the value. */
static void emit_argument(int nr, int argument, uint32_t mask, uint32_t value, uint32_t otherwise)
{
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, nr);
	emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args) + 8 * argument);
	emit(BPF_ALU | BPF_AND | BPF_K, 0, 0, mask);
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, value);
	emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
	emit(BPF_RET | BPF_K, 0, 0, otherwise);
}

/* The limit of its own processor time. Of another process of its user, which the server
 * is, it would end that. */
static void emit_limit(void)
{
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, __NR_prlimit64);
	emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args[0]));
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0);
	emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args[1]));
	emit(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, RLIMIT_CPU);
	emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
	emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM);
}

static void seccomp(void)
{
	const uint32_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
		CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	struct sock_fprog program = {0, filter};

	emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
	emit(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCHITECTURE);
	emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
	emit(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
	emit(BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x40000000); /* x32 */
	emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
#endif
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		emit_call(allowed[i], SECCOMP_RET_ALLOW);
	emit_argument(__NR_mmap, 2, PROT_EXEC, 0, SECCOMP_RET_ERRNO | EACCES);
	emit_argument(__NR_mprotect, 2, PROT_EXEC, 0, SECCOMP_RET_ERRNO | EACCES);
	/* A thread of glibc. Its clone3 has the flags in memory, where no filter sees
	 * them: it fails with ENOSYS, and glibc calls clone. */
	emit_argument(__NR_clone, 0, ~0u, thread, SECCOMP_RET_KILL_PROCESS);
	emit_argument(__NR_tgkill, 0, ~0u, getpid(), SECCOMP_RET_KILL_PROCESS); /* abort */
	emit_limit();
	for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
		emit_call(deadly[i], SECCOMP_RET_KILL_PROCESS);
	emit(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS);
	program.len = filter_len;
	must(!syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

/* A server that root runs has them; madvise alone could take memory from the machine. A
 * service manager may refuse capset where there are none. */
static void capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3] = {0};
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	must(!syscall(__NR_capget, &header, now), "reading of capabilities");
	if (memcmp(now, none, sizeof none))
		must(!syscall(__NR_capset, &header, none), "dropping of capabilities");
}

void sandbox(struct ready *ready)
{
	const uint32_t kill = SECCOMP_RET_KILL_PROCESS;
	pid_t parent = getppid();

	/* Asked first: once files may not grow, stderr may be unable to take an error. */
	must(!syscall(__NR_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &kill), "seccomp");

	/* The kernel sends it when the THREAD that started the worker ends. If that
	 * was before this call, the end of stdin ends the worker. */
	must(!prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "death with the parent");
	must(getppid() == parent, "the parent has ended");
	setpgid(0, 0); /* fails only if the worker leads a session, which is a group of its own */
	must(!syscall(__NR_close_range, 3, ~0u, 0), "closing of inherited files");
	capabilities();
	must(!prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "protection from debuggers");
	must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	if (!prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)) /* Linux 6.3 */
		ready->flags |= CONFINED_MDWE;
	landlock(ready);
	limits();
	seccomp();
}
