/* The task of temporal_task.h: start and stop, a frame's way through the queue, a packet's way out.
 *
 * One atomic, `phase`, says who may touch what. The task owns context and queue's end while it is STARTING or RUNNING,
 * start and stop own everything in the other phases, and every other call counts itself in before it looks at the phase,
 * so that stop can wait for it. */
#include "temporal_task.h"

#include <stdatomic.h>

#include "ruv_temporal.h"
#include "sdkconfig.h"
#include "temporal_port.h"
#include "wdt_model.h"
#include "wdt_wire.h"

#define PERIOD_US ((uint64_t)CONFIG_TEMPORAL_CLASSIFY_PERIOD_MS * 1000u)
#define LOG_PERIOD_US 1000000u
#define POLL_MS 10u /* of start, which waits for the task, and of stop */
#define REST_MS 1u  /* what is left to tasks of lower priority, and to the watchdog's, where this one never waits */

enum { STOPPED, STARTING, REFUSED, RUNNING, STOPPING, ENDED };

/* Something that may happen at every frame, and is logged at most once a second. */
typedef struct event {
    uint32_t count, logged;
    uint32_t newest;  /* what the newest one came with: its error, or milliseconds */
    uint64_t next_us; /* not logged before */
} event;

static struct {
    atomic_int phase;
    atomic_uint_least32_t inside; /* calls under way that may use queue or context */
    atomic_uint_least32_t dropped;
    temporal_task_config_t config;
    temporal_port_queue *queue;
    esp_err_t refusal; /* why the phase is REFUSED */

    /* The task's own. */
    ruv_temporal_ctx_t *ctx;
    uint32_t seq;     /* of the next packet; wraps */
    uint64_t due_us;  /* when it may be made */
    uint32_t fresh;   /* frames since the last one */
    event drops, refused, unsent, overruns;
    float frame[CONFIG_TEMPORAL_INPUT_DIM];
} task;

/* ----------------------------------------------------------------------------------------------------------- events */

static void happened(event *what, uint32_t with)
{
    what->count++;
    what->newest = with;
}

/* Those that are not logged yet, which they are from now on; 0 if it is too early for another line. */
static unsigned long to_log(event *what, uint64_t now_us)
{
    const uint32_t fresh = what->count - what->logged;
    if (fresh == 0 || now_us < what->next_us) {
        return 0;
    }
    what->logged = what->count;
    what->next_us = now_us + LOG_PERIOD_US;
    return fresh;
}

static void log_errors(event *what, uint64_t now_us, const char *name)
{
    const unsigned long fresh = to_log(what, now_us);
    if (fresh > 0) {
        temporal_port_log("%lu %s (newest error 0x%x)", fresh, name, (unsigned)what->newest);
    }
}

static void log_events(void)
{
    const uint64_t now_us = temporal_port_now_us();
    task.drops.count = (uint32_t)atomic_load(&task.dropped);
    task.drops.newest = ESP_ERR_TIMEOUT;
    log_errors(&task.drops, now_us, "frames dropped: the queue was full");
    log_errors(&task.refused, now_us, "frames refused");
    log_errors(&task.unsent, now_us, "packets not made or not sent");
    const unsigned long overruns = to_log(&task.overruns, now_us);
    if (overruns > 0) {
        temporal_port_log("%lu decisions took longer than the period of %d ms (newest: %lu ms)", overruns,
                          CONFIG_TEMPORAL_CLASSIFY_PERIOD_MS, (unsigned long)task.overruns.newest);
    }
}

/* ----------------------------------------------------------------------------------------------------------- packet */

/* A packet that is not sent uses its number up all the same, so that the receiver sees that it misses one. */
static void send_decision(uint64_t now_us)
{
    float logits[CONFIG_TEMPORAL_N_CLASSES];
    uint8_t packet[WDT_WIRE_CLASSIFICATION_BYTES];
    esp_err_t error = ruv_temporal_classify(task.ctx, logits, CONFIG_TEMPORAL_N_CLASSES);
    if (error == ESP_OK) {
        wdt_wire_classification decided = wdt_wire_decide(logits, CONFIG_TEMPORAL_N_CLASSES);
        decided.node_id = task.config.node_id;
        decided.ts_us = now_us;
        decided.seq = task.seq++;
        wdt_wire_write_classification(&decided, packet);
        error = task.config.send(packet, sizeof packet, task.config.user);
    }
    if (error != ESP_OK) {
        happened(&task.unsent, (uint32_t)error);
    }
}

/* --------------------------------------------------------------------------------------------------------- the task */

static void take_frame(void)
{
    const esp_err_t error = ruv_temporal_push(task.ctx, task.frame);
    if (error == ESP_OK) {
        task.fresh++;
    } else {
        happened(&task.refused, (uint32_t)error);
    }
}

/* How long a frame may be waited for: until a packet is due, or something may have to be logged. */
static uint32_t patience_ms(void)
{
    const uint64_t now_us = temporal_port_now_us();
    uint64_t left_us = LOG_PERIOD_US;
    if (task.fresh > 0) {
        left_us = task.due_us > now_us ? task.due_us - now_us : 0;
    }
    return (uint32_t)((left_us < LOG_PERIOD_US ? left_us : LOG_PERIOD_US) + 999u) / 1000u;
}

/* Waits for a frame; then takes what there is, but no more than a queue of them: with frames that come faster than they
 * are taken, packets go out too, and other tasks run. */
static void take_frames(void)
{
    uint32_t wait_ms = patience_ms();
    for (int n = 0; n < TEMPORAL_TASK_QUEUE_FRAMES; n++, wait_ms = 0) {
        if (!temporal_port_queue_receive(task.queue, task.frame, wait_ms) || atomic_load(&task.phase) != RUNNING) {
            return;
        }
        take_frame();
    }
    temporal_port_sleep_ms(REST_MS);
}

/* A period after this one was due, so that packets keep their beat; a period from now where that has passed. */
static void plan_next(uint64_t begun_us, uint64_t now_us)
{
    task.due_us = task.due_us + PERIOD_US > begun_us ? task.due_us + PERIOD_US : begun_us + PERIOD_US;
    if (task.due_us <= now_us) {
        task.due_us = now_us + PERIOD_US;
    }
}

static void decide_when_due(void)
{
    const uint64_t begun_us = temporal_port_now_us();
    if (task.fresh > 0 && begun_us >= task.due_us) {
        send_decision(begun_us);
        task.fresh = 0;
        const uint64_t now_us = temporal_port_now_us();
        plan_next(begun_us, now_us);
        if (now_us - begun_us > PERIOD_US) {
            happened(&task.overruns, (uint32_t)((now_us - begun_us) / 1000u));
            temporal_port_sleep_ms(REST_MS); /* the queue is full by now: the task would not wait for frames */
        }
    }
    log_events();
}

/* The dims that clash, where that is what is wrong. */
static void log_refusal(esp_err_t error)
{
    wdt_rvne blob;
    wdt_model model;
    temporal_port_log("not started (error 0x%x)", (unsigned)error);
    if (wdt_rvne_parse(task.config.weights, task.config.weights_len, &blob) == WDT_OK &&
        wdt_model_init(&model, &blob, NULL) == WDT_OK) {
        temporal_port_log("the blob has %ld features and %ld classes; menuconfig says %d and %d", (long)model.features,
                          (long)model.classes, CONFIG_TEMPORAL_INPUT_DIM, CONFIG_TEMPORAL_N_CLASSES);
    }
}

static esp_err_t prepare(void)
{
    const esp_err_t error = ruv_temporal_kernel_self_test();
    return error == ESP_OK ? ruv_temporal_init(task.config.weights, task.config.weights_len, CONFIG_TEMPORAL_INPUT_DIM,
                                               CONFIG_TEMPORAL_WINDOW_LEN, CONFIG_TEMPORAL_N_CLASSES, &task.ctx)
                           : error;
}

/* Everything that takes stack runs here, and not in the task that calls start. */
static void run(void)
{
    task.refusal = prepare();
    if (task.refusal != ESP_OK) {
        log_refusal(task.refusal);
        atomic_store(&task.phase, REFUSED);
        temporal_port_task_end();
        return;
    }
    task.due_us = temporal_port_now_us() + PERIOD_US;
    atomic_store(&task.phase, RUNNING);
    while (atomic_load(&task.phase) == RUNNING) {
        take_frames();
        if (atomic_load(&task.phase) == RUNNING) {
            decide_when_due();
        }
    }
    atomic_store(&task.phase, ENDED);
    temporal_port_task_end();
}

/* ------------------------------------------------------------------------------------------------ start, stop, push */

/* Leaves phase `from`, whose owner the caller becomes; 0 if the phase is another one. */
static int leave(int from, int to)
{
    return atomic_compare_exchange_strong(&task.phase, &from, to);
}

/* Frees what start made, when the task is there no longer. */
static void finish(void)
{
    if (task.queue != NULL) {
        temporal_port_queue_delete(task.queue);
    }
    ruv_temporal_destroy(task.ctx);
    task.queue = NULL;
    task.ctx = NULL;
    atomic_store(&task.phase, STOPPED);
}

static void clear(const temporal_task_config_t *config)
{
    task.config = *config;
    task.seq = task.fresh = 0;
    task.drops = task.refused = task.unsent = task.overruns = (event){0};
    atomic_store(&task.dropped, 0);
}

esp_err_t temporal_task_start(const temporal_task_config_t *config)
{
    if (config == NULL || config->weights == NULL || config->send == NULL) {
        return ESP_ERR_INVALID_ARG;
    }
    if (!leave(STOPPED, STARTING)) {
        return ESP_ERR_INVALID_STATE;
    }
    clear(config);
    task.queue = temporal_port_queue_create(TEMPORAL_TASK_QUEUE_FRAMES, sizeof task.frame);
    if (task.queue == NULL || !temporal_port_task_create(run, "temporal", TEMPORAL_TASK_STACK_BYTES,
                                                         TEMPORAL_TASK_PRIORITY, TEMPORAL_TASK_CORE)) {
        finish();
        return ESP_ERR_NO_MEM;
    }
    while (atomic_load(&task.phase) == STARTING) {
        temporal_port_sleep_ms(POLL_MS);
    }
    if (atomic_load(&task.phase) == REFUSED) {
        const esp_err_t error = task.refusal;
        finish();
        return error;
    }
    return ESP_OK;
}

esp_err_t temporal_task_push_frame(const float *frame)
{
    esp_err_t error = ESP_ERR_NOT_FOUND;
    if (frame == NULL) {
        return ESP_ERR_INVALID_ARG;
    }
    atomic_fetch_add(&task.inside, 1);
    if (atomic_load(&task.phase) == RUNNING) {
        error = temporal_port_queue_send(task.queue, frame) ? ESP_OK : ESP_ERR_TIMEOUT;
        atomic_fetch_add(&task.dropped, error == ESP_ERR_TIMEOUT);
    }
    atomic_fetch_sub(&task.inside, 1);
    return error;
}

uint32_t temporal_task_dropped(void)
{
    return (uint32_t)atomic_load(&task.dropped);
}

const struct wdt_model *temporal_task_model(void)
{
    const struct wdt_model *model = NULL;
    atomic_fetch_add(&task.inside, 1);
    if (atomic_load(&task.phase) == RUNNING) {
        model = ruv_temporal_model(task.ctx);
    }
    atomic_fetch_sub(&task.inside, 1);
    return model;
}

esp_err_t temporal_task_stop(void)
{
    if (!leave(RUNNING, STOPPING)) {
        return ESP_ERR_INVALID_STATE;
    }
    while (atomic_load(&task.inside) > 0) { /* later ones see the phase, and leave the queue alone */
        temporal_port_sleep_ms(POLL_MS);
    }
    static const float wake[CONFIG_TEMPORAL_INPUT_DIM]; /* in case that the task waits; no place left: it does not */
    (void)temporal_port_queue_send(task.queue, wake);
    while (atomic_load(&task.phase) != ENDED) {
        temporal_port_sleep_ms(POLL_MS);
    }
    finish();
    return ESP_OK;
}
