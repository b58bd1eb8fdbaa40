/* What the node's calls cost: instructions, stack and heap of each case.
 *
 * numbers: window_len, packets, numbers of a packet, features of the reference blob, its classes, features of the
 * activity model, its classes. parts: q, k, v of the default head over window_len positions; the reference blob in
 * float32, float16 and int8; frames of it, [2 window_len]; the activity model, and in int8; times and packets (buffers
 * of an ESP32's driver) of a recording of at least 2 window_len frames.
 * Prints "bench", then instructions of a call, bytes of stack, bytes of heap, dtype, case. */
#include "host.h"
#include "input.h"
#include "memory.h"
#include "print.h"
#include "ruv_temporal.h"
#include "tasks.h"
#include "temporal_features.h"
#include "wdt_model.h"

enum { WINDOW_LEN, PACKETS, VALUES, INPUT_DIM, N_CLASSES, ACTIVITY_DIM, ACTIVITY_CLASSES };
enum { Q, K, V, BLOB, HALF_BLOB, INT8_BLOB, FRAMES, ACTIVITY, INT8_ACTIVITY, TIMES, IQ };
enum { MOST = 256 }; /* features, classes and embedding of the models here */

static const char *const dtypes[2] = {"float32", "float16"};

static void require(int ok, const char *what)
{
    if (!ok) {
        fail(what, ok);
    }
}

/* ----------------------------------------------------------------------------------------------------- measuring */

static void nothing(void *user) { (void)user; }

/* The counter may turn over in the course of a case, though not within a call. */
static uint64_t instructions(void (*work)(void *user), void *user, int32_t calls)
{
    const uint32_t mask = (uint32_t)((1ull << HOST_BITS) - 1);
    uint64_t units = 0;
    for (uint32_t now, last = host_counter(); calls > 0; calls--, last = now) {
        work(user);
        now = host_counter();
        units += (now - last) & mask;
    }
    return units * HOST_UNIT;
}

/* A case: the mean of `calls` calls. What calling an empty function costs is taken off. */
static void measure(const char *name, uint8_t half, void (*work)(void *user), void *user, int32_t calls)
{
    const uint64_t empty = instructions(nothing, user, calls);
    stack_paint();
    const uint64_t all = instructions(work, user, calls);
    const size_t stack = stack_used();
    print_begin("bench");
    print_integer((int64_t)((all - empty + (uint64_t)calls / 2) / (uint64_t)calls));
    print_integer((int64_t)stack);
    print_integer((int64_t)heap_used());
    print_word(dtypes[half]);
    print_word(name);
    print_end();
}

/* ---------------------------------------------------------------------------------- one layer's attention, T frames */

typedef struct attention {
    wdt_head head;
    wdt_cache cache;
    float *out;
    void *scratch;
} attention;

static void run_window(void *user)
{
    attention *const a = user;
    wdt_forward(&a->head, input.number[WINDOW_LEN], input_at(Q), input_at(K), input_at(V), a->out, a->scratch);
}

static void run_steps(void *user)
{
    attention *const a = user;
    const int32_t dq = a->head.q_heads * a->head.head_dim, dkv = a->head.kv_heads * a->head.head_dim;
    for (int32_t t = 0; t < input.number[WINDOW_LEN]; t++) {
        const float *const q = (const float *)input_at(Q) + t * dq;
        require(wdt_step(&a->head, &a->cache, q, (const float *)input_at(K) + t * dkv,
                         (const float *)input_at(V) + t * dkv, a->out) == WDT_OK, "wdt_step");
    }
}

static void bench_attention(void)
{
    const int32_t T = input.number[WINDOW_LEN];
    static attention a;
    a.head = wdt_head_default();
    a.scratch = heap_take(wdt_forward_scratch_bytes(&a.head, T));
    a.out = heap_take((size_t)(T * a.head.q_heads * a.head.head_dim) * sizeof(float));
    measure("attention_window", 0, run_window, &a, 1);
    for (uint8_t half = 0; half < 2; half++) {
        heap_clear();
        const wdt_cache_config config = {.capacity = T, .form = half ? WDT_CACHE_HALF : 0};
        void *const memory = heap_take(wdt_cache_bytes(&a.head, &config));
        a.out = heap_take((size_t)(a.head.q_heads * a.head.head_dim) * sizeof(float));
        require(wdt_cache_init(&a.cache, &a.head, &config, memory) == WDT_OK, "wdt_cache_init");
        measure("attention_steps", half, run_steps, &a, 1);
    }
    heap_clear();
}

/* ------------------------------------------------------------------------------------ a stream's push at window_len */

typedef struct subject { /* what a call works on */
    wdt_stream stream;
    ruv_temporal_ctx_t *ctx;
    const uint8_t *blob;
    size_t blob_bytes;
    const float *frames; /* [2 window_len, dim] */
    int32_t dim, classes, at; /* the next frame */
    ruv_temporal_options_t options;
} subject;

static float logits[MOST], embedding[MOST];

static const float *next_frame(subject *s)
{
    return s->frames + s->at++ % (2 * input.number[WINDOW_LEN]) * s->dim;
}

static void push_stream(void *user)
{
    subject *const s = user;
    require(wdt_stream_push(&s->stream, next_frame(s), logits, embedding) == WDT_OK, "wdt_stream_push");
}

static void bench_push(const char *name, int blob, uint8_t half)
{
    static wdt_model model;
    static subject s;
    wdt_rvne parsed;
    const wdt_cache_config config = {.capacity = 4 * (ptrdiff_t)input.number[WINDOW_LEN],
                                     .form = half ? WDT_CACHE_HALF : 0};
    require(wdt_rvne_parse(input_at(blob), input.part[blob].length, &parsed) == WDT_OK, "wdt_rvne_parse");
    require(wdt_model_init(&model, &parsed, NULL) == WDT_OK, "wdt_model_init");
    require(model.classes <= MOST && model.embedding_dim <= MOST, "too large a model");
    s = (subject){.frames = input_at(FRAMES), .dim = input.number[INPUT_DIM]};
    void *const memory = heap_take(wdt_stream_bytes(&model, &config));
    require(wdt_stream_init(&s.stream, &model, &config, memory) == WDT_OK, "wdt_stream_init");
    for (int32_t t = 0; t < input.number[WINDOW_LEN]; t++) {
        push_stream(&s);
    }
    measure(name, half, push_stream, &s, 1);
    heap_clear();
}

/* -------------------------------------------------------------------------------------------------------- the C ABI */

static void init(void *user)
{
    subject *const s = user;
    require(ruv_temporal_init_with(s->blob, s->blob_bytes, (uint32_t)s->dim, (uint32_t)input.number[WINDOW_LEN],
                                   (uint32_t)s->classes, &s->options, &s->ctx) == ESP_OK, "ruv_temporal_init_with");
}

static void push(void *user)
{
    subject *const s = user;
    require(ruv_temporal_push(s->ctx, next_frame(s)) == ESP_OK, "ruv_temporal_push");
}

static void classify(void *user)
{
    subject *const s = user;
    require(ruv_temporal_classify(s->ctx, logits, (uint32_t)s->classes) == ESP_OK, "ruv_temporal_classify");
}

/* The one allocation is what the size function says. */
static void require_size(const subject *s)
{
    ruv_temporal_sizes_t sizes;
    require(ruv_temporal_size(s->blob, s->blob_bytes, (uint32_t)s->dim, (uint32_t)input.number[WINDOW_LEN],
                              (uint32_t)s->classes, &s->options, &sizes) == ESP_OK, "ruv_temporal_size");
    require(sizes.total == heap_used(), "ruv_temporal_size is not what init allocates");
}

/* Init; window_len frames; then a push, the mean over window_len of them; and a classification, of SESSION also a
 * mean. */
static void bench_mode(subject *s, ruv_temporal_mode_t mode, uint8_t half, const char *const names[3])
{
    s->options = (ruv_temporal_options_t){.mode = mode, .half = half};
    s->at = 0;
    const size_t calls = heap_calls();
    measure(names[0], half, init, s, 1);
    require_size(s);
    for (int32_t t = 0; t < input.number[WINDOW_LEN]; t++) {
        push(s);
    }
    measure(names[1], half, push, s, input.number[WINDOW_LEN]);
    measure(names[2], half, classify, s, mode == RUV_TEMPORAL_WINDOW ? 1 : input.number[WINDOW_LEN]);
    require(heap_calls() == calls + 1, "an allocation after init");
    ruv_temporal_destroy(s->ctx);
    require(heap_used() == 0, "memory kept after destroy");
}

static void bench_abi(void)
{
    static const char *const names[2][3] = {{"window_init", "window_push", "window_classify"},
                                            {"session_init", "session_push", "session_classify"}};
    static subject s;
    s = (subject){.blob = input_at(BLOB), .blob_bytes = input.part[BLOB].length, .frames = input_at(FRAMES),
                  .dim = input.number[INPUT_DIM], .classes = input.number[N_CLASSES]};
    for (int mode = 0; mode < 2; mode++) {
        for (uint8_t half = 0; half < 2; half++) {
            bench_mode(&s, (ruv_temporal_mode_t)mode, half, names[mode]);
        }
    }
}

/* ------------------------------------------------------------------------------------- packets, and a trained model */

typedef struct link {
    temporal_features_t *features;
    float *frames;
    int32_t packet, n_frames, dim;
} link;

static void take_packet(void *user)
{
    link *const l = user;
    const int32_t values = input.number[VALUES];
    const int64_t time_us = ((const int64_t *)input_at(TIMES))[l->packet];
    temporal_features_push(l->features, (const int8_t *)input_at(IQ) + values * l->packet++, (size_t)values, time_us);
    while (temporal_features_next(l->features, l->frames + l->n_frames * l->dim) == ESP_OK) {
        l->n_frames += l->n_frames < 2 * input.number[WINDOW_LEN]; /* further ones go where the last one is */
    }
}

/* Makes the frames that the model's cases then take. */
static const float *bench_features(float *frames)
{
    static wdt_rvne parsed;
    static wdt_model model;
    static link l;
    const temporal_features_layout_t layout = {(uint16_t)input.number[VALUES], TEMPORAL_FEATURES_ASCENDING, 1};
    require(wdt_rvne_parse(input_at(ACTIVITY), input.part[ACTIVITY].length, &parsed) == WDT_OK, "wdt_rvne_parse");
    require(wdt_model_init(&model, &parsed, NULL) == WDT_OK, "wdt_model_init");
    const size_t bytes = temporal_features_bytes(&model, &layout);
    l = (link){.frames = frames, .dim = model.features};
    require(temporal_features_init(heap_take(bytes), bytes, &model, &layout, &l.features) == ESP_OK,
            "temporal_features_init");
    measure("activity_features", 0, take_packet, &l, input.number[PACKETS]);
    require(l.n_frames == 2 * input.number[WINDOW_LEN], "too short a recording");
    heap_clear();
    return frames;
}

static void bench_activity(void)
{
    static const char *const names[2][3] = {
        {"activity_window_init", "activity_window_push", "activity_window_classify"},
        {"activity_session_init", "activity_session_push", "activity_session_classify"}};
    static const char *const int8_names[3] = {"activity_int8_session_init", "activity_int8_session_push",
                                              "activity_int8_session_classify"};
    static float frames[(2 * 256 + 1) * MOST];
    static subject s;
    require(input.number[WINDOW_LEN] <= 256 && input.number[ACTIVITY_DIM] <= MOST, "too large a window or frame");
    s = (subject){.blob = input_at(ACTIVITY), .blob_bytes = input.part[ACTIVITY].length,
                  .frames = bench_features(frames), .dim = input.number[ACTIVITY_DIM],
                  .classes = input.number[ACTIVITY_CLASSES]};
    for (int mode = 0; mode < 2; mode++) {
        for (uint8_t half = 0; half < 2; half++) {
            bench_mode(&s, (ruv_temporal_mode_t)mode, half, names[mode]);
        }
    }
    s.blob = input_at(INT8_ACTIVITY);
    s.blob_bytes = input.part[INT8_ACTIVITY].length;
    for (uint8_t half = 0; half < 2; half++) {
        bench_mode(&s, RUV_TEMPORAL_SESSION, half, int8_names);
    }
}

void bench(void)
{
    bench_attention();
    for (uint8_t half = 0; half < 2; half++) {
        bench_push("push", BLOB, half);
        bench_push("push_float16_weights", HALF_BLOB, half);
        bench_push("push_int8_weights", INT8_BLOB, half);
    }
    bench_abi();
    bench_activity();
}
