/* The task on POSIX threads. Packets go to stdout in hexadecimal, one a line, with what the program knows of them; log
 * lines to stderr. tests/firmware/test_task.py decodes both.
 *
 *   run_task SCENARIO BLOB...      of 16 features and 4 classes, but for "contract", whose second clashes
 *
 * temporal_task.c is compiled in here, so that "wrap" can set the number of the next packet. */
#include "../../firmware/components/ruv_temporal/src/temporal_task.c"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "blob.h"

enum { F = CONFIG_TEMPORAL_INPUT_DIM };

static _Alignas(8) uint8_t blob[BLOB_MAX], other[BLOB_MAX];

/* ------------------------------------------------------------------------------------------------------------ sender */

static atomic_int sent, held; /* packets so far; 1: the sender waits */
static uint32_t takes_ms;     /* the sender's time */
static esp_err_t answer = ESP_OK;

static esp_err_t send(const uint8_t *packet, size_t length, void *user)
{
    CHECK(user == &sent && length == 40);
    for (size_t b = 0; b < length; b++) {
        printf("%02x", packet[b]);
    }
    printf("\n");
    atomic_fetch_add(&sent, 1);
    temporal_port_sleep_ms(takes_ms);
    while (atomic_load(&held)) {
        temporal_port_sleep_ms(1);
    }
    return answer;
}

static void wait_for_packets(int count)
{
    while (atomic_load(&sent) < count) { /* a test that hangs is ended by pytest */
        temporal_port_sleep_ms(1);
    }
}

/* Exact in float32, and the same in Python. */
static const float *frame_of(int t)
{
    static float frame[F];
    for (int f = 0; f < F; f++) {
        frame[f] = (float)((t * t * 31 + f * 17 + t) % 128) / 64.0f - 1.0f;
    }
    return frame;
}

static esp_err_t push(int t) { return temporal_task_push_frame(frame_of(t)); }

static temporal_task_config_t config = {.weights = blob, .node_id = 9, .send = send, .user = &sent};

static void start(void) { CHECK(temporal_task_start(&config) == ESP_OK); }

static void stop(void) { CHECK(temporal_task_stop() == ESP_OK); }

/* --------------------------------------------------------------------------------------------------------- scenarios */

static void contract(const char *clashing)
{
    temporal_task_config_t wrong = config;
    CHECK(push(0) == ESP_ERR_NOT_FOUND && temporal_task_stop() == ESP_ERR_INVALID_STATE);
    CHECK(temporal_task_model() == NULL);
    CHECK(temporal_task_start(NULL) == ESP_ERR_INVALID_ARG);
    wrong.weights = NULL;
    CHECK(temporal_task_start(&wrong) == ESP_ERR_INVALID_ARG);
    wrong = config;
    wrong.send = NULL;
    CHECK(temporal_task_start(&wrong) == ESP_ERR_INVALID_ARG);
    wrong = config;
    wrong.weights_len--;
    CHECK(temporal_task_start(&wrong) == ESP_ERR_INVALID_ARG);
    wrong.weights = other;
    wrong.weights_len = read_blob(clashing, other);
    CHECK(temporal_task_start(&wrong) == ESP_ERR_INVALID_ARG); /* and both dims are logged */
    other[30] ^= 1;
    CHECK(temporal_task_start(&wrong) == ESP_ERR_INVALID_CRC);
    CHECK(push(0) == ESP_ERR_NOT_FOUND && temporal_task_stop() == ESP_ERR_INVALID_STATE);

    for (int again = 0; again < 3; again++) {
        start();
        CHECK(temporal_task_start(&config) == ESP_ERR_INVALID_STATE);
        CHECK(temporal_task_model() != NULL);
        CHECK(temporal_task_push_frame(NULL) == ESP_ERR_INVALID_ARG);
        CHECK(push(0) == ESP_OK && temporal_task_dropped() == 0);
        stop();
        CHECK(push(0) == ESP_ERR_NOT_FOUND && temporal_task_stop() == ESP_ERR_INVALID_STATE);
    }
}

/* A packet of each of `count` frames, and none without a new one. */
static void packets(int count)
{
    printf("start %" PRIu64 "\n", temporal_port_now_us());
    start();
    for (int t = 0; t < count; t++) {
        CHECK(push(t) == ESP_OK);
        wait_for_packets(t + 1);
    }
    temporal_port_sleep_ms(3 * CONFIG_TEMPORAL_CLASSIFY_PERIOD_MS);
    CHECK(atomic_load(&sent) == count);
    stop();
    CHECK(atomic_load(&sent) == count);
}

/* While the sender waits the queue fills up: 32 frames, and not one more. Then all are in the next decision. */
static void full(void)
{
    atomic_store(&held, 1);
    start();
    CHECK(push(0) == ESP_OK);
    wait_for_packets(1);
    for (int t = 1; t <= TEMPORAL_TASK_QUEUE_FRAMES; t++) {
        CHECK(push(t) == ESP_OK);
    }
    for (int t = 0; t < 11; t++) {
        CHECK(push(99) == ESP_ERR_TIMEOUT && temporal_task_dropped() == (uint32_t)t + 1);
    }
    atomic_store(&held, 0);
    wait_for_packets(2);
    CHECK(push(33) == ESP_OK);
    wait_for_packets(3);
    stop();
    CHECK(temporal_task_dropped() == 11);
    start();
    CHECK(temporal_task_dropped() == 0);
    stop();
}

/* Senders that fail and frames that are refused do not stop it. */
static void failures(void)
{
    float bad[F] = {NAN};
    const uint64_t from_us = temporal_port_now_us();
    answer = ESP_FAIL;
    start();
    for (int t = 0; t < 12; t++) {
        CHECK(temporal_task_push_frame(bad) == ESP_OK && push(t) == ESP_OK);
        wait_for_packets(t + 1);
    }
    stop();
    printf("took %" PRIu64 "\n", temporal_port_now_us() - from_us);
}

/* A sender that takes longer than the period, and frames all the time. */
static void overrun(void)
{
    takes_ms = 2 * CONFIG_TEMPORAL_CLASSIFY_PERIOD_MS + 50;
    start();
    for (int t = 0; atomic_load(&sent) < 5; t++) {
        (void)push(t);
        temporal_port_sleep_ms(5);
    }
    stop();
}

static void wrap(void)
{
    start();
    task.seq = UINT32_MAX - 1; /* the task reads it with the first frame */
    for (int t = 0; t < 4; t++) {
        CHECK(push(t) == ESP_OK);
        wait_for_packets(t + 1);
    }
    stop();
    start();
    CHECK(push(0) == ESP_OK);
    wait_for_packets(5);
    stop();
}

static atomic_int over;

static void *pusher(void *count)
{
    const float frame[F] = {0.5f};
    while (!atomic_load(&over)) {
        const esp_err_t error = temporal_task_push_frame(frame);
        CHECK(error == ESP_OK || error == ESP_ERR_TIMEOUT || error == ESP_ERR_NOT_FOUND);
        atomic_fetch_add((atomic_int *)count, error == ESP_OK);
        (void)temporal_task_dropped();
        (void)temporal_task_model(); /* asked for, and not looked at: another thread stops the task */
    }
    return NULL;
}

static void *starter(void *starts)
{
    for (int n = 0; n < 20; n++) {
        const esp_err_t error = temporal_task_start(&config);
        CHECK(error == ESP_OK || error == ESP_ERR_INVALID_STATE);
        atomic_fetch_add((atomic_int *)starts, error == ESP_OK);
        temporal_port_sleep_ms(2);
        const esp_err_t ended = temporal_task_stop();
        CHECK(ended == ESP_OK || ended == ESP_ERR_INVALID_STATE);
    }
    return NULL;
}

/* Frames from two threads while two others start and stop. */
static void threads(void)
{
    pthread_t pushers[2], starters[2];
    atomic_int pushed = 0, starts = 0;
    for (int n = 0; n < 2; n++) {
        CHECK(pthread_create(&pushers[n], NULL, pusher, &pushed) == 0);
        CHECK(pthread_create(&starters[n], NULL, starter, &starts) == 0);
    }
    for (int n = 0; n < 2; n++) {
        CHECK(pthread_join(starters[n], NULL) == 0);
    }
    (void)temporal_task_stop();
    atomic_store(&over, 1);
    for (int n = 0; n < 2; n++) {
        CHECK(pthread_join(pushers[n], NULL) == 0);
    }
    CHECK(atomic_load(&pushed) > 0 && atomic_load(&starts) > 0 && push(0) == ESP_ERR_NOT_FOUND);
}

int main(int count, char **argument)
{
    CHECK(count >= 3);
    config.weights_len = read_blob(argument[2], blob);
    const char *const scenario = argument[1];
    if (strcmp(scenario, "contract") == 0) {
        contract(argument[3]);
    } else if (strcmp(scenario, "packets") == 0) {
        packets(6);
    } else if (strcmp(scenario, "full") == 0) {
        full();
    } else if (strcmp(scenario, "failures") == 0) {
        failures();
    } else if (strcmp(scenario, "overrun") == 0) {
        overrun();
    } else if (strcmp(scenario, "wrap") == 0) {
        wrap();
    } else {
        CHECK(strcmp(scenario, "threads") == 0);
        threads();
    }
    return 0;
}
