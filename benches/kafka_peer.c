/* The client of benches/kafka_peer.sh: loads a Kafka server by librdkafka, or by raw sockets where one record a request is wanted.
 *
 *   kafka_peer produce ADDR TOPIC PARTITIONS RECORDS            500 B records, lz4, linger 5 ms, acks=all         → records/s
 *   kafka_peer single  ADDR TOPIC PARTITIONS CONNECTIONS SECONDS one record a request, each connection one at a time → requests/s p50 p99 (ms)
 *   kafka_peer latency ADDR TOPIC PARTITIONS RATE SECONDS LINGER paced producer and consumer in one process        → p50 p99 p99.9 (ms) records
 *   kafka_peer consume ADDR TOPIC PARTITIONS RECORDS FROM       reads RECORDS: the `last` ones, or from the FROMth on → MB/s of values, bytes
 *   kafka_peer first   ADDR TOPIC BEGAN_NS                      a record taken, tried until it is                  → ms since BEGAN_NS (of the wall clock)
 *
 * Not a test of what answers mean: tests/compat is that. It ends with a message and code 1 when a record is not taken or does not come.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_SIZE = 500, VARIANTS = 20000, CONNECTIONS_MAX = 1024, FRAME_MAX = 4096, LATENCIES_MAX = 40000000 };

static char *records;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "kafka_peer: %s: %s\n", what, why);
    exit(1);
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static unsigned next_random(void) {
    static uint64_t seed = 12345;
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(seed >> 33);
}

/* Clicks as text, padded with letters that compress about as clicks do; the same for every run. */
static void make_records(void) {
    records = malloc((size_t)RECORD_SIZE * VARIANTS);
    for (int n = 0; n < VARIANTS; n++) {
        char text[1024];
        int size = snprintf(text, sizeof text,
                            "{\"ts\":\"2026-11-0%uT12:%02u:%02u.%03uZ\",\"eventId\":\"e-%08x%08x-%d\",\"userId\":\"u%u\",\"type\":\"click\",\"page\":{\"url\":"
                            "\"https://shop.example/%u\",\"title\":\"Shop\",\"referrer\":\"https://www.google.com/\"},\"viewport\":{\"width\":%u,\"height\":%u},"
                            "\"props\":{\"price\":%u.%02u,\"quantity\":%u,\"currency\":\"EUR\"},\"userAgent\":\"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) "
                            "Gecko/20100101 Firefox/127.0\",\"ip\":\"203.0.113.%u\",\"pad\":\"",
                            next_random() % 9 + 1, next_random() % 60, next_random() % 60, next_random() % 1000, next_random(), next_random(), n, next_random() % 500, next_random() % 900, 360 + next_random() % 1500,
                            640 + next_random() % 400, next_random() % 200, next_random() % 100, next_random() % 5, next_random() % 256);
        while (size < RECORD_SIZE - 2) text[size++] = 'a' + next_random() % 26;
        memcpy(text + RECORD_SIZE - 2, "\"}", 2);
        memcpy(records + (size_t)n * RECORD_SIZE, text, RECORD_SIZE);
    }
}

/* librdkafka */

static rd_kafka_t *client(rd_kafka_type_t kind, const char *address, void (*configure)(rd_kafka_conf_t *)) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", address, why, sizeof why)) fail("bootstrap.servers", why);
    configure(conf);
    rd_kafka_t *made = rd_kafka_new(kind, conf, why, sizeof why);
    if (!made) fail("cannot make a client", why);
    return made;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[512];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why)) fail(name, why);
}

static int64_t delivered, refused;

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk, (void)opaque;
    if (message->err) {
        if (!refused++) fprintf(stderr, "kafka_peer: not taken: %s\n", rd_kafka_err2str(message->err));
    } else {
        delivered++;
    }
}

/* Milliseconds that a producer waits for more. */
static const char *linger = "5";

static void as_producer(rd_kafka_conf_t *conf) {
    set(conf, "compression.type", "lz4");
    set(conf, "linger.ms", linger);
    set(conf, "acks", "all");
    set(conf, "queue.buffering.max.messages", "1000000");
    set(conf, "queue.buffering.max.kbytes", "524288");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
}

static void as_consumer(rd_kafka_conf_t *conf) {
    set(conf, "group.id", "kafka-peer");
    set(conf, "enable.auto.commit", "false");
    set(conf, "queued.min.messages", "1000000");
    set(conf, "check.crcs", "false");
}

static void produce_one(rd_kafka_topic_t *topic, rd_kafka_t *producer, int partition, const void *value, size_t size) {
    while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, (void *)value, size, NULL, 0, NULL)) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail("cannot produce", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(producer, 1);
    }
}

static void produce(const char *address, const char *name, int partitions, int64_t count) {
    make_records();
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, address, as_producer);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, name, NULL);
    /* Metadata and connections are there before the clock starts. */
    for (int n = 0; n < partitions; n++) produce_one(topic, producer, n, records, RECORD_SIZE);
    if (rd_kafka_flush(producer, 30000)) fail("flush", "nothing was taken in 30 s");
    delivered = 0;
    int64_t began = now_ns();
    for (int64_t n = 0; n < count; n++) {
        produce_one(topic, producer, (int)(n / 64 % partitions), records + (size_t)(n % VARIANTS) * RECORD_SIZE, RECORD_SIZE);
        if (n % 256 == 0) rd_kafka_poll(producer, 0);
    }
    rd_kafka_flush(producer, 120000);
    if (delivered != count || refused) fail("produce", "not all records were taken");
    printf("%.0f\n", count / ((now_ns() - began) / 1e9));
}

/* Begins `back` records before each partition's end, or `skip` behind its beginning if `back` is negative. */
static rd_kafka_t *consumer_at(const char *address, const char *name, int partitions, int64_t back, int64_t skip) {
    rd_kafka_t *consumer = client(RD_KAFKA_CONSUMER, address, as_consumer);
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int n = 0; n < partitions; n++) {
        int64_t low = 0, high = 0;
        rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(consumer, name, n, &low, &high, 20000);
        if (error) fail("watermarks", rd_kafka_err2str(error));
        int64_t from = back < 0 ? low + skip : high - back;
        if (from < low || from > high) fail("consume", "the partition holds fewer records than that");
        rd_kafka_topic_partition_list_add(list, name, n)->offset = from;
    }
    rd_kafka_assign(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    return consumer;
}

static void consume(const char *address, const char *name, int partitions, int64_t count, const char *from) {
    int is_last = !strcmp(from, "last");
    rd_kafka_t *consumer = consumer_at(address, name, partitions, is_last ? count / partitions : -1, atoll(from) / partitions);
    count = count / partitions * partitions;
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
    static rd_kafka_message_t *messages[10000];
    int64_t got = 0, bytes = 0, began = now_ns(), until = began + 120000000000LL;
    while (got < count && now_ns() < until) {
        ssize_t some = rd_kafka_consume_batch_queue(queue, 200, messages, 10000);
        for (ssize_t n = 0; n < some; n++) {
            if (!messages[n]->err) got++, bytes += (int64_t)messages[n]->len;
            rd_kafka_message_destroy(messages[n]);
        }
    }
    if (got < count) fail("consume", "not all records came in 120 s");
    printf("%.1f %lld\n", bytes / ((now_ns() - began) / 1e9) / 1e6, (long long)bytes);
    fflush(stdout);
    _exit(0); /* a consumer closes at its leisure */
}

/* Latency: a value begins with the time at which it was due. */

static struct { const char *address, *name; int partitions; int64_t rate, seconds; volatile int64_t sent; volatile int is_done; } paced;

static void *send_paced(void *unused) {
    (void)unused;
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, paced.address, as_producer);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, paced.name, NULL);
    int64_t began = now_ns(), total = paced.rate * paced.seconds;
    char value[RECORD_SIZE];
    for (int64_t n = 0; n < total;) {
        int64_t due = (now_ns() - began) / 1000 * paced.rate / 1000000;
        for (; n < due && n < total; n++) {
            int64_t time = began + n * 1000000000LL / paced.rate;
            memcpy(value, records + (size_t)(n % VARIANTS) * RECORD_SIZE, RECORD_SIZE);
            memcpy(value, &time, sizeof time);
            produce_one(topic, producer, (int)(n % paced.partitions), value, RECORD_SIZE);
        }
        paced.sent = n;
        rd_kafka_poll(producer, 0);
        usleep(500);
    }
    rd_kafka_flush(producer, 30000);
    if (refused) fail("latency", "not all records were taken");
    paced.is_done = 1;
    return NULL;
}

static int by_size(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void latency(const char *address, const char *name, int partitions, int64_t rate, int64_t seconds, const char *wait) {
    make_records();
    linger = wait;
    paced.address = address, paced.name = name, paced.partitions = partitions, paced.rate = rate, paced.seconds = seconds;
    if (rate * seconds > LATENCIES_MAX) fail("latency", "too many records");
    rd_kafka_t *consumer = consumer_at(address, name, partitions, 0, 0);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
    static rd_kafka_message_t *messages[10000];
    /* The fetches at the ends are under way before the first record. */
    for (int n = 0; n < 10; n++)
        if (rd_kafka_consume_batch_queue(queue, 100, messages, 10000) > 0) fail("latency", "somebody else produces");
    pthread_t sender;
    pthread_create(&sender, NULL, send_paced, NULL);
    int32_t *micros = malloc(sizeof *micros * (size_t)(rate * seconds));
    int64_t got = 0, kept = 0, total = rate * seconds, quiet = now_ns(), warm = rate * 2;
    while (got < total) {
        ssize_t some = rd_kafka_consume_batch_queue(queue, 1, messages, 10000);
        int64_t now = now_ns();
        for (ssize_t n = 0; n < some; n++) {
            if (!messages[n]->err && messages[n]->len == RECORD_SIZE) {
                int64_t due;
                memcpy(&due, messages[n]->payload, sizeof due);
                if (got++ >= warm) micros[kept++] = (int32_t)((now - due) / 1000);
                quiet = now;
            }
            rd_kafka_message_destroy(messages[n]);
        }
        if (now - quiet > 20000000000LL) fail("latency", "records do not come");
    }
    qsort(micros, (size_t)kept, sizeof *micros, by_size);
    printf("%.2f %.2f %.2f %lld\n", micros[kept / 2] / 1e3, micros[kept * 99 / 100] / 1e3, micros[kept * 999 / 1000] / 1e3, (long long)kept);
    fflush(stdout);
    _exit(0);
}

/* Raw sockets: one Produce 7 request with one record, the same bytes again and again. */

static uint32_t crc32c(const uint8_t *data, size_t size) {
    uint32_t value = 0xFFFFFFFF;
    for (size_t n = 0; n < size; n++) {
        value ^= data[n];
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0x82F63B78u : 0);
    }
    return value ^ 0xFFFFFFFF;
}

static size_t put(uint8_t *out, size_t at, int64_t value, int size) {
    for (int n = 0; n < size; n++) out[at + (size_t)n] = (uint8_t)((uint64_t)value >> 8 * (size - 1 - n));
    return at + (size_t)size;
}

static size_t put_varint(uint8_t *out, size_t at, int64_t value) {
    uint64_t left = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
    for (; left > 127; left >>= 7) out[at++] = (uint8_t)(left | 128);
    out[at++] = (uint8_t)left;
    return at;
}

static size_t produce_request(uint8_t *out, const char *topic, int partition) {
    uint8_t batch[1024], inner[700];
    int64_t ms = clock_ns(CLOCK_REALTIME) / 1000000;
    size_t in = put(inner, 0, 0, 1); /* attributes */
    in = put_varint(inner, in, 0), in = put_varint(inner, in, 0), in = put_varint(inner, in, -1), in = put_varint(inner, in, RECORD_SIZE);
    memcpy(inner + in, records + (size_t)partition * RECORD_SIZE, RECORD_SIZE), in += RECORD_SIZE;
    in = put_varint(inner, in, 0); /* headers */
    size_t at = 61;
    at = put_varint(batch, at, (int64_t)in);
    memcpy(batch + at, inner, in), at += in;
    size_t head = put(batch, 0, 0, 8);
    head = put(batch, head, (int64_t)at - 12, 4), head = put(batch, head, -1, 4), head = put(batch, head, 2, 1), head += 4;
    head = put(batch, head, 0, 2), head = put(batch, head, 0, 4), head = put(batch, head, ms, 8), head = put(batch, head, ms, 8);
    head = put(batch, head, -1, 8), head = put(batch, head, -1, 2), head = put(batch, head, -1, 4), head = put(batch, head, 1, 4);
    put(batch, 17, crc32c(batch + 21, at - 21), 4);
    size_t name = strlen(topic), to = 4;
    to = put(out, to, 0, 2), to = put(out, to, 7, 2), to = put(out, to, 1, 4), to = put(out, to, -1, 2); /* Produce 7, correlation id 1, no client id */
    to = put(out, to, -1, 2), to = put(out, to, -1, 2), to = put(out, to, 30000, 4), to = put(out, to, 1, 4); /* no transaction, acks all, timeout, one topic */
    to = put(out, to, (int64_t)name, 2), memcpy(out + to, topic, name), to += name;
    to = put(out, to, 1, 4), to = put(out, to, partition, 4), to = put(out, to, (int64_t)at, 4), memcpy(out + to, batch, at), to += at;
    put(out, 0, (int64_t)to - 4, 4);
    return to;
}

static int dial(const char *address) {
    char host[64];
    const char *colon = strrchr(address, ':');
    if (!colon || colon - address >= (long)sizeof host) fail(address, "not HOST:PORT");
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) fail(address, "not an IPv4 address");
    int file = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(file, (struct sockaddr *)&to, sizeof to)) {
        close(file);
        return -1;
    }
    return file;
}

/* The error code of the only partition in an answer to Produce 7, or -1000 when the answer is not one. */
static int error_code(const uint8_t *frame, size_t size, size_t name) {
    size_t at = 4 + 4 + 2 + name + 4 + 4;
    return at + 2 > size ? -1000 : (int16_t)(frame[at] << 8 | frame[at + 1]);
}

struct one { int file; size_t got, request_size; uint8_t request[FRAME_MAX], answer[FRAME_MAX]; int64_t asked; };

/* Takes what is there of the answer. 1 when it is whole. */
static int take(struct one *one) {
    ssize_t some = read(one->file, one->answer + one->got, FRAME_MAX - one->got);
    if (some <= 0) fail("answer", some ? strerror(errno) : "the connection was closed");
    one->got += (size_t)some;
    if (one->got < 4) return 0;
    size_t size = (size_t)one->answer[0] << 24 | (size_t)one->answer[1] << 16 | (size_t)one->answer[2] << 8 | one->answer[3];
    return one->got >= size + 4;
}

static void ask(struct one *one) {
    one->asked = now_ns(), one->got = 0;
    if (write(one->file, one->request, one->request_size) != (ssize_t)one->request_size) fail("request", strerror(errno));
}

static void single(const char *address, const char *topic, int partitions, int connections, int64_t seconds) {
    static struct one all[CONNECTIONS_MAX];
    make_records();
    if (connections > CONNECTIONS_MAX) fail("single", "too many connections");
    int poll = epoll_create1(0);
    for (int n = 0; n < connections; n++) {
        all[n].file = dial(address);
        if (all[n].file < 0) fail(address, strerror(errno));
        all[n].request_size = produce_request(all[n].request, topic, n % partitions);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[n]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[n].file, &event);
    }
    int32_t *micros = malloc(sizeof *micros * LATENCIES_MAX / 4);
    int64_t began = now_ns(), warm = began + 1000000000LL, end = warm + seconds * 1000000000LL, count = 0;
    for (int n = 0; n < connections; n++) ask(&all[n]);
    while (now_ns() < end) {
        struct epoll_event events[256];
        int some = epoll_wait(poll, events, 256, 1000);
        for (int n = 0; n < some; n++) {
            struct one *one = events[n].data.ptr;
            if (!take(one)) continue;
            int code = error_code(one->answer + 4, one->got - 4, strlen(topic));
            if (code) fprintf(stderr, "kafka_peer: error %d\n", code), exit(1);
            int64_t now = now_ns();
            if (now >= warm && count < LATENCIES_MAX / 4) micros[count++] = (int32_t)((now - one->asked) / 1000);
            ask(one);
        }
    }
    if (!count) fail("single", "nothing was answered");
    double took = (now_ns() - warm) / 1e9;
    qsort(micros, (size_t)count, sizeof *micros, by_size);
    printf("%.0f %.2f %.2f\n", count / took, micros[count / 2] / 1e3, micros[count * 99 / 100] / 1e3);
}

static void first(const char *address, const char *topic, int64_t began) {
    make_records();
    while (clock_ns(CLOCK_REALTIME) - began < 300000000000LL) {
        struct one one = {.file = dial(address)};
        if (one.file >= 0) {
            struct timeval wait = {.tv_sec = 30};
            setsockopt(one.file, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
            one.request_size = produce_request(one.request, topic, 0);
            if (write(one.file, one.request, one.request_size) == (ssize_t)one.request_size) {
                ssize_t some = read(one.file, one.answer, FRAME_MAX);
                if (some > 4 && error_code(one.answer + 4, (size_t)some - 4, strlen(topic)) == 0) {
                    printf("%.1f\n", (clock_ns(CLOCK_REALTIME) - began) / 1e6);
                    return;
                }
            }
            close(one.file);
        }
        usleep(500);
    }
    fail("first", "nothing was taken in 300 s");
}

int main(int count, char **given) {
    const char *what = count > 1 ? given[1] : "";
#define NUMBER(n) atoll(given[n])
    if (!strcmp(what, "produce") && count == 6) produce(given[2], given[3], (int)NUMBER(4), NUMBER(5));
    else if (!strcmp(what, "single") && count == 7) single(given[2], given[3], (int)NUMBER(4), (int)NUMBER(5), NUMBER(6));
    else if (!strcmp(what, "latency") && count == 8) latency(given[2], given[3], (int)NUMBER(4), NUMBER(5), NUMBER(6), given[7]);
    else if (!strcmp(what, "consume") && count == 7) consume(given[2], given[3], (int)NUMBER(4), NUMBER(5), given[6]);
    else if (!strcmp(what, "first") && count == 5) first(given[2], given[3], NUMBER(4));
    else fail("usage", "see the head of kafka_peer.c");
    return 0;
}
