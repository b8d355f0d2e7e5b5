/* The least that receives and drops, or transmits, on one AF_XDP socket: the
 * yardstick for package raw. Its parent makes the socket, descriptor 3, so that
 * it can be put into the map of the XDP program.
 *
 *	raw rx|tx IFINDEX QUEUE PACKETS NANOSECONDS [FRAME in hex]
 *
 * It says "ready" when it is bound, starts on a line of input, ends after so
 * many packets or so many nanoseconds since the first (0 is no limit), or when
 * the input ends, and prints a line of JSON. Ring sizes, chunk size, bind flags,
 * batch, and when it makes a system call are those of the Go side.
 */
#include <errno.h>
#include <linux/if_xdp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef AF_XDP
#define AF_XDP 44
#endif
#define MAX_TX_SKB_BUDGET 9 /* XDP_MAX_TX_SKB_BUDGET, Linux 6.17 */

enum { FD = 3, RING = 2048, BATCH = 64, CHUNK = 4096, CHUNKS = 2 * RING + 512 };

struct ring {
	uint32_t *producer, *consumer, *flags;
	void *slots;
	uint32_t next;  /* our index */
	uint32_t known; /* the other side's, as last seen */
};

static struct ring fill, comp, rx, tx;
static uint8_t *umem;
static uint64_t calls;

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static uint32_t load(uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static void store(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static uint64_t cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

static void set_size(int option)
{
	int n = RING;

	if (setsockopt(FD, SOL_XDP, option, &n, sizeof n))
		die("set ring size");
}

static void map_ring(struct ring *r, struct xdp_ring_offset *off, size_t entry, off_t at)
{
	uint8_t *m = mmap(0, off->desc + RING * entry, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, FD, at);

	if (m == MAP_FAILED)
		die("map ring");
	r->producer = (uint32_t *)(m + off->producer);
	r->consumer = (uint32_t *)(m + off->consumer);
	r->flags = (uint32_t *)(m + off->flags);
	r->slots = m + off->desc;
}

static void open_socket(unsigned ifindex, unsigned queue)
{
	int budget = BATCH;
	struct xdp_umem_reg reg = { .len = (uint64_t)CHUNKS * CHUNK, .chunk_size = CHUNK };
	struct sockaddr_xdp addr = {
		.sxdp_family = AF_XDP, .sxdp_flags = XDP_USE_NEED_WAKEUP,
		.sxdp_ifindex = ifindex, .sxdp_queue_id = queue,
	};
	struct xdp_mmap_offsets off;
	socklen_t n = sizeof off;
	int i;

	umem = mmap(0, reg.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (umem == MAP_FAILED)
		die("map umem");
	reg.addr = (uintptr_t)umem;
	if (setsockopt(FD, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg))
		die("register umem");
	set_size(XDP_UMEM_FILL_RING);
	set_size(XDP_UMEM_COMPLETION_RING);
	set_size(XDP_RX_RING);
	set_size(XDP_TX_RING);
	if (getsockopt(FD, SOL_XDP, XDP_MMAP_OFFSETS, &off, &n))
		die("read ring offsets");
	map_ring(&fill, &off.fr, sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING);
	map_ring(&comp, &off.cr, sizeof(uint64_t), XDP_UMEM_PGOFF_COMPLETION_RING);
	map_ring(&rx, &off.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING);
	map_ring(&tx, &off.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
	if (setsockopt(FD, SOL_XDP, MAX_TX_SKB_BUDGET, &budget, sizeof budget) && errno != ENOPROTOOPT)
		die("set transmit budget");
	/* A closed socket lets go of its queue asynchronously. */
	for (i = 0; bind(FD, (struct sockaddr *)&addr, sizeof addr); i++) {
		if (errno != EBUSY || i == 200)
			die("bind");
		usleep(10000);
	}
}

/* The ring slots of an index. */
static uint64_t *address(struct ring *r, uint32_t i) { return (uint64_t *)r->slots + (i & (RING - 1)); }
static struct xdp_desc *desc(struct ring *r, uint32_t i) { return (struct xdp_desc *)r->slots + (i & (RING - 1)); }

/* How many entries a ring that we read has, up to a batch. */
static uint32_t ready(struct ring *r, uint32_t most)
{
	if (r->known - r->next < most)
		r->known = load(r->producer);
	return r->known - r->next < most ? r->known - r->next : most;
}

/* How much room a ring that we write has, up to a batch. */
static uint32_t room(struct ring *r, uint32_t most)
{
	if (r->known + RING - r->next < most)
		r->known = load(r->consumer);
	return r->known + RING - r->next < most ? r->known + RING - r->next : most;
}

static uint64_t packets, bytes, first, last, most_packets, most_time;

static uint32_t todo(void)
{
	if (most_time && first && now() - first >= most_time)
		return 0;
	return most_packets && most_packets - packets < BATCH ? most_packets - packets : BATCH;
}

static int input_ended(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

/* Looking at the input costs a system call, so idle loops do it rarely. */
enum { PATIENCE = 1 << 16 };

static void receive_drop(void)
{
	uint32_t i, n, m, idle = 0;

	while ((m = todo())) {
		n = ready(&rx, m);
		if (!n) {
			if (++idle % PATIENCE == 0 && input_ended())
				return;
			continue;
		}
		if (!first)
			first = now();
		/* What was received was in the fill ring, so there is room. */
		for (i = 0; i < n; i++) {
			struct xdp_desc *d = desc(&rx, rx.next + i);

			bytes += d->len;
			*address(&fill, fill.next + i) = d->addr & ~(uint64_t)(CHUNK - 1);
		}
		rx.next += n;
		store(rx.consumer, rx.next);
		fill.next += n;
		store(fill.producer, fill.next);
		if (__atomic_load_n(fill.flags, __ATOMIC_SEQ_CST) & XDP_RING_NEED_WAKEUP) {
			recvfrom(FD, 0, 0, MSG_DONTWAIT, 0, 0);
			calls++;
		}
		packets += n;
		last = now();
	}
}

static void transmit(const uint8_t *frame, size_t len)
{
	static uint64_t stock[CHUNKS];
	uint32_t i, n, m, stocked = 0, idle = 0;

	for (i = 0; i < CHUNKS; i++)
		stock[stocked++] = (uint64_t)i * CHUNK;
	first = last = now();
	for (;;) {
		m = todo();
		if (!m && load(tx.consumer) == tx.next)
			return;
		n = m ? room(&tx, m) : 0;
		if (n > stocked)
			n = stocked;
		for (i = 0; i < n; i++) {
			struct xdp_desc *d = desc(&tx, tx.next + i);

			d->addr = stock[--stocked];
			d->len = len;
			d->options = 0;
			memcpy(umem + d->addr, frame, len);
		}
		tx.next += n;
		store(tx.producer, tx.next);
		packets += n;
		bytes += n * len;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (load(tx.flags) & XDP_RING_NEED_WAKEUP) {
			calls++;
			if (sendto(FD, 0, 0, MSG_DONTWAIT, 0, 0) < 0 && errno != EAGAIN && errno != EBUSY && errno != ENOBUFS && errno != EINTR)
				die("sendto");
		}
		m = ready(&comp, RING);
		for (i = 0; i < m; i++)
			stock[stocked++] = *address(&comp, comp.next + i);
		comp.next += m;
		store(comp.consumer, comp.next);
		if (n)
			last = now();
		else if (++idle % PATIENCE == 0 && input_ended())
			return;
	}
}

int main(int argc, char **argv)
{
	static uint8_t frame[CHUNK];
	struct xdp_statistics st = { 0 };
	socklen_t size = sizeof st;
	uint64_t spent;
	size_t len = 0;
	uint32_t i;
	char go;

	if (argc < 6) {
		fprintf(stderr, "usage: raw rx|tx IFINDEX QUEUE PACKETS NANOSECONDS [FRAME]\n");
		return 2;
	}
	most_packets = strtoull(argv[4], 0, 10);
	most_time = strtoull(argv[5], 0, 10);
	if (argc > 6)
		for (; len < CHUNK && sscanf(argv[6] + 2 * len, "%2hhx", &frame[len]) == 1; len++)
			;
	open_socket(atoi(argv[2]), atoi(argv[3]));
	if (argv[1][0] == 'r') {
		for (i = 0; i < RING; i++)
			*address(&fill, i) = (uint64_t)i * CHUNK;
		fill.next = RING;
		store(fill.producer, RING);
	}
	printf("ready\n");
	fflush(stdout);
	if (read(0, &go, 1) != 1)
		return 1;
	spent = cpu();
	if (argv[1][0] == 'r')
		receive_drop();
	else
		transmit(frame, len);
	spent = cpu() - spent;
	getsockopt(FD, SOL_XDP, XDP_STATISTICS, &st, &size);
	printf("{\"packets\":%llu,\"bytes\":%llu,\"elapsed\":%llu,\"calls\":%llu,\"cpu\":%llu,\"lost\":%llu}\n",
	       (unsigned long long)packets, (unsigned long long)bytes, (unsigned long long)(last - first),
	       (unsigned long long)calls, (unsigned long long)spent,
	       (unsigned long long)(st.rx_dropped + st.rx_ring_full));
	return 0;
}
