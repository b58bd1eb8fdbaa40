/* The pattern, the window pass, the cache and the step, on memory of exactly the stated sizes: what a sanitizer
 * needs to see a byte too many. Whether the numbers are right is tested from Python, against a float64 reference. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "random.h"
#include "wdt_attention.h"
#include "wdt_kernels.h"

#define CACHE_OF(tokens, how) (&(wdt_cache_config){.capacity = (tokens), .form = (unsigned)(how)})

/* Marks one candidate, which is inside [0, n) and new. */
static void mark(ptrdiff_t j, ptrdiff_t n, uint8_t *seen)
{
    CHECK(0 <= j && j < n && !seen[j]);
    seen[j] = 1;
}

/* Marks all candidates; returns how many there are. */
static ptrdiff_t mark_all(const wdt_candidates *candidates, ptrdiff_t n, uint8_t *seen)
{
    CHECK(candidates->begin <= candidates->end && candidates->n_singles <= WDT_MAX_SINGLES);
    for (ptrdiff_t j = candidates->begin; j < candidates->end; j++) {
        mark(j, n, seen);
    }
    for (int s = 0; s < candidates->n_singles; s++) {
        mark(candidates->singles[s], n, seen);
    }
    return candidates->end - candidates->begin + candidates->n_singles;
}

static void each_candidate_comes_once(const wdt_head *head, ptrdiff_t T)
{
    wdt_candidates tokens, landmarks;
    int64_t pairs = 0;
    for (ptrdiff_t i = 0; i < T; i++) {
        uint8_t *seen_tokens = calloc((size_t)T, 1), *seen_blocks = calloc((size_t)T, 1);
        wdt_token_candidates(head, i, T, &tokens);
        wdt_landmark_candidates(head, i, T, &landmarks);
        pairs += mark_all(&tokens, T, seen_tokens);
        pairs += mark_all(&landmarks, (T - 1) / head->block_size + 1, seen_blocks);
        CHECK(seen_tokens[i]);
        free(seen_tokens);
        free(seen_blocks);
    }
    CHECK(wdt_edge_count(head, T) == pairs);
}

static void step_equals_forward(const wdt_head *head, ptrdiff_t T, int half)
{
    const size_t query = (size_t)(head->q_heads * head->head_dim), key = (size_t)(head->kv_heads * head->head_dim);
    float *q = random_floats((size_t)T * query), *k = random_floats((size_t)T * key);
    float *v = random_floats((size_t)T * key), *out = random_floats((size_t)T * query), *row = random_floats(query);
    void *scratch = malloc(wdt_forward_scratch_bytes(head, T)), *memory = malloc(wdt_cache_bytes(head, CACHE_OF(T, half)));
    const float tolerance = half ? 2e-3f : strcmp(wdt_instruction_set(), "scalar") == 0 ? 0.0f : 1e-6f;
    wdt_cache cache;

    wdt_forward(head, T, q, k, v, out, scratch);
    CHECK(wdt_cache_init(&cache, head, CACHE_OF(T, half), memory) == (head->causal ? WDT_OK : WDT_E_CONFIG));
    for (ptrdiff_t t = 0; head->causal && t < T; t++) {
        CHECK(wdt_step(head, &cache, q + (size_t)t * query, k + (size_t)t * key, v + (size_t)t * key, row) == WDT_OK);
        if (draw(3) == 0) { /* taken back and made again, the step is the same */
            wdt_cache_undo(&cache);
            CHECK(cache.length == t);
            wdt_step(head, &cache, q + (size_t)t * query, k + (size_t)t * key, v + (size_t)t * key, row);
        }
        for (size_t j = 0; j < query; j++) {
            CHECK(fabsf(row[j] - out[(size_t)t * query + j]) <= tolerance);
        }
    }
    if (head->causal) {
        CHECK(wdt_step(head, &cache, q, k, v, row) == WDT_E_FULL);
    }
    free(q), free(k), free(v), free(out), free(row), free(scratch), free(memory);
}

static void sizes_that_overflow_are_refused(void)
{
    wdt_head head = wdt_head_default();
    wdt_cache cache;
    head.q_heads = head.kv_heads = head.head_dim = WDT_MAX_EXTENT;
    CHECK(wdt_head_rule(&head) == NULL);
    CHECK(wdt_cache_bytes(&head, CACHE_OF(PTRDIFF_MAX, 0)) == SIZE_MAX);
    CHECK(wdt_forward_scratch_bytes(&head, PTRDIFF_MAX) == SIZE_MAX);
    CHECK(wdt_cache_init(&cache, &head, CACHE_OF(PTRDIFF_MAX, 0), NULL) == WDT_E_CONFIG);
    head = wdt_head_default();
    CHECK(wdt_cache_init(&cache, &head, CACHE_OF(0, 0), NULL) == WDT_E_CONFIG);
    CHECK(wdt_cache_init(&cache, &head, CACHE_OF(-5, 0), NULL) == WDT_E_CONFIG);
}

static void far_positions_do_not_overflow(void)
{
    wdt_head head = wdt_head_default();
    wdt_candidates tokens, landmarks;
    head.global_tokens[0] = WDT_MAX_EXTENT;
    for (int causal = 0; causal < 2; causal++) {
        head.causal = (uint8_t)causal;
        head.window = causal ? 0 : WDT_MAX_EXTENT;
        const ptrdiff_t positions[] = {PTRDIFF_MAX - 1, PTRDIFF_MAX / 2, 0};
        for (size_t p = 0; p < sizeof positions / sizeof *positions; p++) {
            wdt_token_candidates(&head, positions[p], PTRDIFF_MAX, &tokens);
            wdt_landmark_candidates(&head, positions[p], PTRDIFF_MAX, &landmarks);
            CHECK((tokens.n_singles > 0 || positions[p] == 0) && tokens.n_singles <= WDT_MAX_SINGLES);
            CHECK(landmarks.n_singles <= WDT_MAX_SINGLES && tokens.end <= PTRDIFF_MAX);
        }
    }
}

static void a_copy_holds_the_same_in_any_room(void)
{
    for (int round = 0; round < 50; round++) {
        wdt_head head = random_head();
        head.causal = 1;
        const int half = (int)draw(2);
        const ptrdiff_t held = (ptrdiff_t)draw(30), room = held + 1 + (ptrdiff_t)draw(9);
        const size_t query = (size_t)(head.q_heads * head.head_dim), key = (size_t)(head.kv_heads * head.head_dim);
        float *q = random_floats(query), *k = random_floats(key);
        float *out = random_floats(query), *again = random_floats(query);
        wdt_cache cache, copy;
        void *memory = malloc(wdt_cache_bytes(&head, CACHE_OF(40, half)));
        CHECK(wdt_cache_init(&cache, &head, CACHE_OF(40, half), memory) == WDT_OK);
        for (ptrdiff_t t = 0; t < held; t++) {
            wdt_step(&head, &cache, q, k, k, out);
        }
        void *other = malloc(wdt_cache_copy_bytes(&cache, room));
        wdt_cache_copy(&copy, &cache, room, other);
        CHECK(copy.length == held && copy.capacity == room && wdt_cache_fits(&copy, &head));
        CHECK(wdt_step(&head, &cache, q, k, k, out) == WDT_OK && wdt_step(&head, &copy, q, k, k, again) == WDT_OK);
        CHECK(memcmp(out, again, query * sizeof *out) == 0);
        void *third = malloc(wdt_cache_copy_bytes(&copy, room));
        wdt_cache_copy(&cache, &copy, room, third); /* with what an undo needs */
        wdt_cache_undo(&cache);
        CHECK(cache.length == held && wdt_step(&head, &cache, q, k, k, again) == WDT_OK);
        CHECK(memcmp(out, again, query * sizeof *out) == 0);
        free(third);
        free(q), free(k), free(out), free(again), free(memory), free(other);
    }
}

/* A shared cache is one whose value is the key: the same bits in half the memory, after refusals, undos and copies too. */
static void a_shared_cache_is_one_of_keys_twice(void)
{
    for (int round = 0; round < 60; round++) {
        wdt_head head = random_head();
        head.causal = 1;
        const unsigned half = draw(2) ? WDT_CACHE_HALF : 0;
        const ptrdiff_t room = 1 + (ptrdiff_t)draw(40);
        const size_t query = (size_t)(head.q_heads * head.head_dim), key = (size_t)(head.kv_heads * head.head_dim);
        float *out = malloc(query * sizeof *out), *expected = malloc(query * sizeof *expected);
        void *memory = malloc(wdt_cache_bytes(&head, CACHE_OF(room, half | WDT_CACHE_SHARED)));
        void *twice = malloc(wdt_cache_bytes(&head, CACHE_OF(room, half)));
        wdt_cache shared, plain;
        CHECK(2 * wdt_cache_bytes(&head, CACHE_OF(room, half | WDT_CACHE_SHARED)) == wdt_cache_bytes(&head, CACHE_OF(room, half)));
        CHECK(wdt_cache_init(&shared, &head, CACHE_OF(room, half | WDT_CACHE_SHARED), memory) == WDT_OK);
        CHECK(wdt_cache_init(&plain, &head, CACHE_OF(room, half), twice) == WDT_OK);
        for (ptrdiff_t t = 0; t < room; t++) {
            float *q = random_floats(query), *k = random_floats(key), *v = random_floats(key);
            const float own = k[key - 1];
            k[key - 1] = draw(4) ? own : 65520.0f;
            if (half && k[key - 1] != own) {
                CHECK(wdt_step(&head, &shared, q, k, NULL, out) == WDT_E_HALF_RANGE);
            }
            k[key - 1] = own;
            for (int again = (int)draw(2); again >= 0; again--) {
                wdt_cache_prefetch(&shared, &head);
                CHECK(wdt_step(&head, &shared, q, k, NULL, out) == WDT_OK); /* v is not read */
                CHECK(wdt_step(&head, &plain, q, k, k, expected) == WDT_OK);
                CHECK(memcmp(out, expected, query * sizeof *out) == 0);
                if (again) {
                    wdt_cache_undo(&shared), wdt_cache_undo(&plain);
                }
            }
            wdt_cache_read(&shared, t, k, v);
            CHECK(memcmp(k, v, key * sizeof *k) == 0);
            free(q), free(k), free(v);
        }
        void *other = malloc(wdt_cache_copy_bytes(&shared, room + 1));
        wdt_cache copy;
        wdt_cache_copy(&copy, &shared, room + 1, other);
        float *q = random_floats(query), *k = random_floats(key);
        CHECK(wdt_cache_fits(&copy, &head) && wdt_step(&head, &shared, q, k, NULL, out) == WDT_E_FULL);
        CHECK(wdt_step(&head, &copy, q, k, NULL, out) == WDT_OK && copy.length == room + 1);
        free(q), free(k), free(other), free(memory), free(twice), free(out), free(expected);
    }
}

static void float16_rounds_and_refuses(void)
{
    /* Value in, nearest half out: ties to even, subnormals, the largest, zero's sign. */
    static const float pairs[][2] = {
        {1.0f, 1.0f},          {1.00048828125f, 1.0f},  {1.00146484375f, 1.001953125f}, {65504.0f, 65504.0f},
        {65519.99f, 65504.0f}, {0x1p-24f, 0x1p-24f},    {0x1p-25f, 0.0f},               {0x1.8p-25f, 0x1p-24f},
        {0x1p-14f, 0x1p-14f},  {0x1.ff8p-15f, 0x1.ff8p-15f}, {0x1.ffcp-15f, 0x1p-14f},     {-0.0f, -0.0f},
    };
    wdt_head head = wdt_head_default();
    wdt_cache cache;
    head.q_heads = head.kv_heads = head.head_dim = 1;
    void *memory = malloc(wdt_cache_bytes(&head, CACHE_OF(64, 1)));
    CHECK(wdt_cache_init(&cache, &head, CACHE_OF(64, 1), memory) == WDT_OK);
    for (size_t j = 0; j < sizeof pairs / sizeof *pairs; j++) {
        float q = 0, out, key, value;
        CHECK(wdt_step(&head, &cache, &q, &pairs[j][0], &pairs[j][0], &out) == WDT_OK);
        wdt_cache_read(&cache, cache.length - 1, &key, &value);
        CHECK(key == pairs[j][1] && value == key && signbit(key) == signbit(pairs[j][1]));
    }
    const float big[] = {65520.0f, -65520.0f, INFINITY, NAN}, zero = 0;
    for (size_t j = 0; j < sizeof big / sizeof *big; j++) {
        const ptrdiff_t before = cache.length;
        float out;
        CHECK(wdt_step(&head, &cache, &zero, &big[j], &zero, &out) == WDT_E_HALF_RANGE);
        CHECK(wdt_step(&head, &cache, &zero, &zero, &big[j], &out) == WDT_E_HALF_RANGE);
        CHECK(cache.length == before);
    }
    free(memory);
}

static void unusable_numbers_are_found(void)
{
    const size_t places[] = {0, 1, 254, 255, 256, 257, 511, 512, 599};
    float limits[600] = {WDT_MAX_VALUE, -WDT_MAX_VALUE};
    CHECK(wdt_first_unusable(limits, 600) == -1);
    for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
        float numbers[600] = {0};
        numbers[places[p]] = nextafterf(p % 2 ? WDT_MAX_VALUE : -WDT_MAX_VALUE, p % 2 ? INFINITY : -INFINITY);
        CHECK(wdt_first_unusable(numbers, 600) == (ptrdiff_t)places[p]);
    }
    for (size_t n = 0; n < 600; n += 1 + draw(60)) {
        float *x = random_floats(n);
        CHECK(wdt_first_unusable(x, n) == -1);
        if (n) {
            const size_t at = draw((uint32_t)n);
            x[at] = draw(2) ? NAN : -2 * WDT_MAX_VALUE;
            x[n - 1] = INFINITY;
            CHECK(wdt_first_unusable(x, n) == (ptrdiff_t)at);
        }
        free(x);
    }
}

int main(void)
{
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    for (int set = wdt_instruction_sets(names) - 1; set >= 0; set--) {
        CHECK(wdt_use_instruction_set(names[set]) == WDT_OK && strcmp(wdt_instruction_set(), names[set]) == 0);
        for (int round = 0; round < 300; round++) {
            const wdt_head head = random_head();
            const ptrdiff_t T = 1 + (ptrdiff_t)draw(draw(5) ? 60 : 200); /* beyond a chunk of a step's candidates too */
            each_candidate_comes_once(&head, T);
            step_equals_forward(&head, T, 0);
            step_equals_forward(&head, T, 1);
        }
        sizes_that_overflow_are_refused();
        far_positions_do_not_overflow();
        float16_rounds_and_refuses();
        a_copy_holds_the_same_in_any_room();
        a_shared_cache_is_one_of_keys_twice();
        unusable_numbers_are_found();
    }
    CHECK(wdt_use_instruction_set("abacus") == WDT_E_CONFIG);
    return 0;
}
