/* wdt_heavy_hitter: a full cache lets go of the token that has received the least attention ("H2O", Zhang et al.
 * 2023).
 *
 * Rows of tokens: capacity + 1, taken one after the other, and then always the one whose token has left. A hash table
 * finds a position's row (open addressing, linear probing; Knuth, The Art of Computer Programming 6.4, algorithms L and
 * R). The tokens that may leave are in a binary heap, the one that received least on top.
 *
 * What an append changes beyond the new row is settled at the start of the next one, so that an undo has nothing to
 * bring back: until then the newest token is in no table, the one that leaves is still in all of them, and the weights
 * of the newest step are in a list of their own. Once settled, all follows from the positions of the rows and what they
 * have received, so that of a state from elsewhere nothing else is taken. */
#include "evict.h"

#include <math.h>

#include "checked.h"
#include "exponential.h"

enum { NONE = -1 };

typedef struct hitters {
    wdt_keeping keeping;
    int32_t newest;    /* row of the newest token, not yet in the table; or NONE */
    int32_t victim;    /* row of the token that left for it; or NONE */
    int32_t n_weights; /* of the newest step, not yet received */
    int32_t spare;     /* row of the token that left before */
    int32_t in_heap;
    uint32_t slots; /* of the table, a power of two */
    int64_t oldest; /* no token that is not global is held before this one, unless it is in the heap */
} hitters;

/* The arrays behind it, by row but for the heap and the table. */
typedef struct arrays {
    double *received;    /* [rows] sums of weights; in float32, those of days would stop growing */
    double *weight;      /* [rows] of the newest step, in the order of weight_row */
    int64_t *position;   /* [rows] or NONE */
    int32_t *weight_row; /* [rows] */
    int32_t *heap;       /* [rows] */
    int32_t *heap_place; /* [rows] where the row is in the heap, or NONE */
    int32_t *table;      /* [slots] row + 1, or 0 */
    float *scores;       /* [rows + landmarks of a query] */
    uint32_t slots;
} arrays;

static size_t slots_of(size_t rows)
{
    size_t slots = 4;
    while (slots < 2 * rows) {
        slots *= 2;
    }
    return slots;
}

static size_t state_bytes(ptrdiff_t capacity)
{
    if (capacity > WDT_MAX_EXTENT / 2) { /* rows and slots have 32 bits */
        return SIZE_MAX;
    }
    const size_t rows = (size_t)capacity + 1;
    const size_t each = 2 * sizeof(double) + sizeof(int64_t) + 3 * sizeof(int32_t) + sizeof(float);
    const size_t others = wdt_sum(wdt_product(slots_of(rows), sizeof(int32_t)), WDT_MAX_SINGLES * sizeof(float));
    const size_t bytes = wdt_sum(sizeof(hitters) + 7, wdt_sum(wdt_product(rows, each), others));
    return bytes == SIZE_MAX ? SIZE_MAX : bytes / 8 * 8;
}

static arrays arrays_of(const wdt_cache *cache)
{
    const ptrdiff_t rows = cache->rows;
    arrays a;
    a.received = (double *)(void *)((hitters *)cache->state + 1);
    a.weight = a.received + rows;
    a.position = (int64_t *)(void *)(a.weight + rows);
    a.weight_row = (int32_t *)(void *)(a.position + rows);
    a.heap = a.weight_row + rows;
    a.heap_place = a.heap + rows;
    a.table = a.heap_place + rows;
    a.slots = ((const hitters *)cache->state)->slots;
    a.scores = (float *)(void *)(a.table + a.slots);
    return a;
}

static ptrdiff_t rows(const wdt_head *head, ptrdiff_t capacity)
{
    (void)head;
    return capacity + 1;
}

/* Empty table, heap and list of weights. */
static void clear_tables(wdt_cache *cache)
{
    hitters *const state = cache->state;
    state->newest = state->victim = NONE;
    state->spare = (int32_t)cache->capacity;
    state->n_weights = state->in_heap = 0;
    state->oldest = 0;
    state->slots = (uint32_t)slots_of((size_t)cache->rows);
    const arrays a = arrays_of(cache);
    memset(a.table, 0, a.slots * sizeof *a.table);
    memset(a.heap_place, 0xFF, (size_t)cache->rows * sizeof *a.heap_place); /* NONE */
}

static void clear(wdt_cache *cache)
{
    hitters *const state = cache->state;
    const wdt_keeping keeping = state->keeping;
    memset(state, 0, state_bytes(cache->capacity));
    state->keeping = keeping;
    clear_tables(cache);
    memset(arrays_of(cache).position, 0xFF, (size_t)cache->rows * sizeof(int64_t)); /* NONE */
}

static void start(wdt_cache *cache, const wdt_head *head)
{
    wdt_keeping_start(&((hitters *)cache->state)->keeping, head);
    clear(cache);
}

static int fits(const wdt_cache *cache, const wdt_head *head)
{
    return wdt_keeping_fits(cache->state, head);
}

/* ------------------------------------------------------------------------------------------------------- the table */

static uint32_t home_of(const arrays *a, int64_t position)
{
    return (uint32_t)((uint64_t)position * 0x9E3779B97F4A7C15u >> 32) & (a->slots - 1);
}

static uint32_t slot_of(const arrays *a, int64_t position)
{
    uint32_t slot = home_of(a, position);
    while (a->table[slot] && a->position[a->table[slot] - 1] != position) {
        slot = (slot + 1) & (a->slots - 1);
    }
    return slot;
}

static void remove_slot(const arrays *a, uint32_t hole)
{
    const uint32_t mask = a->slots - 1;
    for (uint32_t slot = (hole + 1) & mask; a->table[slot]; slot = (slot + 1) & mask) {
        const uint32_t home = home_of(a, a->position[a->table[slot] - 1]);
        if (((slot - home) & mask) >= ((slot - hole) & mask)) { /* its home is not behind the hole */
            a->table[hole] = a->table[slot];
            hole = slot;
        }
    }
    a->table[hole] = 0;
}

/* The row of a position, or NONE where it is not held. */
static ptrdiff_t row_of(const wdt_cache *cache, ptrdiff_t position)
{
    const hitters *const state = cache->state;
    const arrays a = arrays_of(cache);
    if (state->newest != NONE && position == cache->length - 1) {
        return state->newest;
    }
    const ptrdiff_t row = a.table[slot_of(&a, position)] - 1;
    return row == state->victim ? NONE : row;
}

/* -------------------------------------------------------------------------------------------------------- the heap */

static int goes_first(const arrays *a, int32_t row, int32_t other)
{
    return a->received[row] < a->received[other] ||
           (a->received[row] == a->received[other] && a->position[row] < a->position[other]);
}

static void put(const arrays *a, int32_t place, int32_t row)
{
    a->heap[place] = row;
    a->heap_place[row] = place;
}

static void sift_up(const arrays *a, int32_t place)
{
    const int32_t row = a->heap[place];
    for (; place > 0 && goes_first(a, row, a->heap[(place - 1) / 2]); place = (place - 1) / 2) {
        put(a, place, a->heap[(place - 1) / 2]);
    }
    put(a, place, row);
}

static void sift_down(const arrays *a, int32_t n, int32_t place)
{
    const int32_t row = a->heap[place];
    for (int32_t child = 2 * place + 1; child < n; child = 2 * place + 1) {
        if (child + 1 < n && goes_first(a, a->heap[child + 1], a->heap[child])) {
            child++;
        }
        if (!goes_first(a, a->heap[child], row)) {
            break;
        }
        put(a, place, a->heap[child]);
        place = child;
    }
    put(a, place, row);
}

static void add_to_heap(hitters *state, const arrays *a, int32_t row)
{
    put(a, state->in_heap++, row);
    sift_up(a, a->heap_place[row]);
}

static void remove_from_heap(hitters *state, const arrays *a, int32_t row)
{
    const int32_t place = a->heap_place[row], last = a->heap[--state->in_heap];
    a->heap_place[row] = NONE;
    if (last != row) {
        put(a, place, last);
        sift_up(a, place);
        sift_down(a, state->in_heap, a->heap_place[last]);
    }
}

/* ------------------------------------------------------------------------------------------------------ an append */

/* Does what the last append has left to do. */
static void settle(wdt_cache *cache)
{
    hitters *const state = cache->state;
    const arrays rows = arrays_of(cache), *const a = &rows;
    for (int32_t w = 0; w < state->n_weights; w++) {
        const int32_t row = a->weight_row[w];
        a->received[row] += a->weight[w];
        if (a->heap_place[row] != NONE) {
            sift_down(a, state->in_heap, a->heap_place[row]);
        }
    }
    if (state->victim != NONE) {
        const int64_t position = a->position[state->victim];
        remove_slot(a, slot_of(a, position));
        if (a->heap_place[state->victim] != NONE) {
            remove_from_heap(state, a, state->victim);
        } else {
            state->oldest = position + 1;
        }
        a->position[state->victim] = NONE;
        state->spare = state->victim;
    }
    if (state->newest != NONE) {
        a->table[slot_of(a, a->position[state->newest])] = state->newest + 1;
    }
    state->n_weights = 0;
    state->newest = state->victim = NONE;
}

/* The row of the token that leaves for position t: the one on top of the heap, or where all are protected the oldest
 * that is not global. There is one: the cache is not full. */
static int32_t victim_for(const hitters *state, const arrays *a, int64_t t)
{
    if (state->in_heap) {
        return a->heap[0];
    }
    int64_t position = t - state->keeping.window;
    position = position > state->oldest ? position : state->oldest;
    while (wdt_global_at(&state->keeping, (ptrdiff_t)position) >= 0) {
        position++;
    }
    return a->table[slot_of(a, position)] - 1;
}

static ptrdiff_t place(wdt_cache *cache)
{
    hitters *const state = cache->state;
    const arrays a = arrays_of(cache);
    const int64_t t = cache->length, leaves_window = t - 1 - state->keeping.window;
    settle(cache);
    if (leaves_window >= 0 && wdt_global_at(&state->keeping, (ptrdiff_t)leaves_window) < 0) {
        const int32_t row = a.table[slot_of(&a, leaves_window)] - 1;
        if (row != NONE && a.heap_place[row] == NONE) { /* it is in already where an append was taken back */
            add_to_heap(state, &a, row);
        }
    }
    if (t >= cache->capacity) {
        state->victim = victim_for(state, &a, t);
    }
    state->newest = t < cache->capacity ? (int32_t)t : state->spare;
    a.position[state->newest] = t;
    a.received[state->newest] = 0.0;
    return state->newest;
}

static void undo(wdt_cache *cache)
{
    hitters *const state = cache->state;
    state->n_weights = 0;
    state->newest = state->victim = NONE;
}

static ptrdiff_t used_rows(const wdt_cache *cache)
{
    return cache->length < cache->rows ? cache->length : cache->rows;
}

static ptrdiff_t held(const wdt_cache *cache)
{
    return cache->length < cache->capacity ? cache->length : cache->capacity;
}

static int is_full(const wdt_cache *cache)
{
    const hitters *const state = cache->state;
    return cache->length >= cache->capacity && wdt_globals_below(&state->keeping, cache->length) >= cache->capacity;
}

static void positions(const wdt_cache *cache, int64_t *positions)
{
    const arrays a = arrays_of(cache);
    for (ptrdiff_t row = 0; row < used_rows(cache); row++) {
        if (row_of(cache, (ptrdiff_t)a.position[row]) == row) {
            *positions++ = a.position[row];
        }
    }
}

/* ------------------------------------------------------------------------------------------------------- attention */

static void add_row(hitters *state, const arrays *a, ptrdiff_t row)
{
    if (row != NONE) {
        a->weight_row[state->n_weights] = (int32_t)row;
        a->weight[state->n_weights++] = 0.0;
    }
}

/* Lists the rows of the tokens among the candidates, each once, with no weight yet. */
static void list_rows(const wdt_cache *cache, const wdt_candidates *tokens)
{
    hitters *const state = cache->state;
    const arrays a = arrays_of(cache);
    if (tokens->end - tokens->begin < cache->rows) {
        for (ptrdiff_t t = tokens->begin; t < tokens->end; t++) {
            add_row(state, &a, row_of(cache, t));
        }
    } else { /* a window longer than what is held */
        for (ptrdiff_t row = 0; row < used_rows(cache); row++) {
            if (row != state->victim && a.position[row] >= tokens->begin) {
                add_row(state, &a, row);
            }
        }
    }
    for (int s = 0; s < tokens->n_singles; s++) {
        add_row(state, &a, row_of(cache, tokens->singles[s]));
    }
}

static float dot(const float *q, const void *key, int half, ptrdiff_t D)
{
    if (!half) {
        return wdt_dot(q, key, D);
    }
    float sum = 0.0f;
    for (ptrdiff_t d = 0; d < D; d++) {
        sum += q[d] * wdt_half_to_float(((const uint16_t *)key)[d]);
    }
    return sum;
}

static void add_value(float weight, const void *value, int half, ptrdiff_t D, float *out)
{
    for (ptrdiff_t d = 0; d < D; d++) {
        out[d] += weight * wdt_number_at(value, half, d);
    }
}

/* One query of key/value head h over the listed tokens, which are given their weights, and these rows of landmarks. */
static void attend_query(const wdt_cache *cache, ptrdiff_t h, const float *q, const ptrdiff_t *landmarks,
                         int n_landmarks, float *out)
{
    const hitters *const state = cache->state;
    const arrays a = arrays_of(cache);
    const ptrdiff_t D = cache->head_dim;
    const float scale = 1.0f / sqrtf((float)D);
    const int32_t n = state->n_weights, all = n + n_landmarks;
    float largest = -INFINITY, total = 0.0f;
    for (int32_t c = 0; c < all; c++) {
        const float score = c < n ? dot(q, wdt_token_at(cache, h, a.weight_row[c], 0), cache->half, D)
                                  : wdt_dot(q, wdt_landmark_at(cache, h, landmarks[c - n], 0), D);
        a.scores[c] = score * scale;
        largest = a.scores[c] > largest ? a.scores[c] : largest;
    }
    for (int32_t c = 0; c < all; c++) {
        a.scores[c] = wdt_exp(a.scores[c] - largest);
        total += a.scores[c];
    }
    memset(out, 0, (size_t)D * sizeof *out);
    for (int32_t c = 0; c < all; c++) {
        const float weight = a.scores[c] / total;
        if (c < n) {
            a.weight[c] += weight;
            add_value(weight, wdt_token_at(cache, h, a.weight_row[c], 1), cache->half, D, out);
        } else {
            add_value(weight, wdt_landmark_at(cache, h, landmarks[c - n], 1), 0, D, out);
        }
    }
}

static void attend(const wdt_head *head, wdt_cache *cache, const float *q, float *out)
{
    const ptrdiff_t D = head->head_dim, group = head->q_heads / head->kv_heads, i = cache->length - 1;
    wdt_candidates tokens, landmarks;
    wdt_token_candidates(head, i, i + 1, &tokens);
    list_rows(cache, &tokens);
    wdt_held_landmarks(cache, head, i, &landmarks);
    for (ptrdiff_t block = landmarks.begin; block < landmarks.end; block++) { /* two at most */
        landmarks.singles[landmarks.n_singles++] = block < cache->blocks ? block : block - cache->blocks;
    }
    for (ptrdiff_t h = 0; h < head->q_heads; h++) {
        attend_query(cache, h / group, q + h * D, landmarks.singles, landmarks.n_singles, out + h * D);
    }
}

/* ------------------------------------------------------------------------------------------- a state from elsewhere */

/* Puts the row into the table; 0 if there is a row of its position already, or if it has no place near its home. Rows
 * are found one by one, and of positions that were picked to have one home, each would be a search through all others:
 * *steps are those that are left for all rows together. Positions that a run keeps need one for two rows. */
static int add_to_table(const arrays *a, int32_t row, ptrdiff_t *steps)
{
    uint32_t slot = home_of(a, a->position[row]);
    for (; a->table[slot]; slot = (slot + 1) & (a->slots - 1)) {
        if (a->position[a->table[slot] - 1] == a->position[row] || --*steps < 0) {
            return 0;
        }
    }
    a->table[slot] = row + 1;
    return 1;
}

/* A settled state from the positions of the rows and what they have received. 0 if no run has these: of the `length`
 * positions so far as many are held as there is room for, all global ones among them, and of the others in the window
 * those from the oldest on. */
static int restore(wdt_cache *cache)
{
    hitters *const state = cache->state;
    clear_tables(cache);
    const arrays a = arrays_of(cache);
    const ptrdiff_t length = cache->length;
    ptrdiff_t n = 0, in_window = 0, globals = 0, steps = 8 * cache->rows + 1024;
    state->oldest = length;
    for (int32_t row = 0; row < cache->rows; row++) {
        const int64_t position = a.position[row];
        if (position < 0 || position >= length) { /* nothing yet, or what has left or been taken back */
            a.position[row] = NONE;
            state->spare = row;
            continue;
        }
        if ((length < cache->capacity && position != row) ||
            !(a.received[row] >= 0.0 && isfinite(a.received[row])) || !add_to_table(&a, row, &steps)) {
            return 0;
        }
        n++;
        if (wdt_global_at(&state->keeping, (ptrdiff_t)position) >= 0) {
            globals++;
        } else if (position < length - state->keeping.window) {
            add_to_heap(state, &a, row);
        } else {
            in_window++;
            state->oldest = position < state->oldest ? position : state->oldest;
        }
    }
    const ptrdiff_t oldest = (ptrdiff_t)state->oldest, all_globals = wdt_globals_below(&state->keeping, length);
    return n == held(cache) && globals == all_globals &&
           in_window == length - oldest - (all_globals - wdt_globals_below(&state->keeping, oldest));
}

const wdt_policy wdt_heavy_hitter = {
    .state_bytes = state_bytes,
    .rows = rows,
    .start = start,
    .clear = clear,
    .fits = fits,
    .is_full = is_full,
    .place = place,
    .undo = undo,
    .held = held,
    .positions = positions,
    .row_of = row_of,
    .used_rows = used_rows,
    .attend = attend,
    .settle = settle,
    .restore = restore,
};
