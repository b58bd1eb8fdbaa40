/* The feature chain; wdt_chain.h is its contract and docs/features.md its reasons.
 *
 * Read from top to bottom: the rules, the bands, the memory, then a packet's way: gains, bin, frame, hand-out.
 * Not here: parsing of packets, phase, any decision. Float32 only: the chips that run this have no double unit.
 */
#include "wdt_chain.h"

#include <math.h>
#include <string.h>

/* A bin's mean counts at most this many packets: up to 2^24 a float holds the count exactly. */
#define COUNT_MAX (1u << 24)
/* Mean square amplitudes within which neither the squares nor the division lose precision in float32. */
#define POWER_MIN 1e-30f
#define POWER_MAX 1e30f

struct wdt_chain {
    wdt_chain_params params;
    uint32_t antennas, subcarriers; /* A, K */
    uint32_t usable;                /* columns with a band */
    float alpha;                    /* weight of the newest step in the motion average */

    /* Arrays behind this struct, in the caller's memory. Columns without a band are never written or read. */
    float *current;      /* [A, K] X_n so far: the mean over the open bin's packets */
    float *previous;     /* [A, K] X_(n-1), swapped with `current` when a bin closes */
    float *inverse_gain; /* [A] 1 / g of the packet in hand */
    float *weight;       /* [B] 1 / (A * columns of the band) */
    float *motion;       /* [B] the motion average */
    float *frame;        /* [2B] the next frame to hand out */
    int16_t *band;       /* [K] */

    int64_t newest_us; /* the newest packet taken, once `started` */
    int64_t edge_us;   /* end of the open bin */
    int64_t due_us;    /* time of the next frame to hand out */
    uint32_t due;      /* frames to hand out before the next packet */
    uint32_t packets;  /* in the open bin */
    uint8_t started, open, first, held; /* any packet yet; a bin is open; it is its segment's first; frame is held */
    uint64_t skipped, late;
};

/* ------------------------------------------------------------------------------------------------------ parameters */

wdt_chain_params wdt_chain_params_default(void)
{
    wdt_chain_params params = {
        .version = WDT_CHAIN_DEFAULT_VERSION,
        .bands = WDT_CHAIN_DEFAULT_BANDS,
        .period_us = WDT_CHAIN_DEFAULT_PERIOD_US,
        .motion_time_us = WDT_CHAIN_DEFAULT_MOTION_TIME_US,
        .max_gap_us = WDT_CHAIN_DEFAULT_MAX_GAP_US,
    };
    return params;
}

/* At least 1 and at most WDT_CHAIN_MAX_PERIODS periods? Divided, because the product can exceed 32 bits. */
static int within_periods(uint32_t time_us, uint32_t period_us)
{
    return time_us >= 1 && (time_us - 1) / period_us < WDT_CHAIN_MAX_PERIODS;
}

const char *wdt_chain_params_rule(const wdt_chain_params *params)
{
    if (params->version != WDT_CHAIN_DEFAULT_VERSION) {
        return "version must be 1: this release knows no other feature chain";
    }
    if (params->bands < 1 || params->bands > WDT_CHAIN_MAX_BANDS) {
        return "bands must be between 1 and 1024";
    }
    if (params->period_us < WDT_CHAIN_MIN_PERIOD_US || params->period_us > WDT_CHAIN_MAX_PERIOD_US) {
        return "period_us must be between 100 and 10000000, that is 10000 to 0.1 frames a second";
    }
    if (!within_periods(params->motion_time_us, params->period_us)) {
        return "motion_time_us must be at least 1 and at most 10000 periods";
    }
    if (!within_periods(params->max_gap_us, params->period_us)) {
        return "max_gap_us must be at least 1 and at most 10000 periods";
    }
    return NULL;
}

/* ----------------------------------------------------------------------------------------------- subcarriers, bands */

typedef struct spectrum {
    int span;      /* the largest |index| of this bandwidth's transform */
    int low, high; /* |index| of the innermost and outermost usable subcarrier */
    int pilots[4]; /* |index|; 0 fills up: it lies below `low` anyway */
} spectrum;

/* IEEE Std 802.11-2020: clause 17 (20 MHz, legacy), 19 (40 MHz, HT), 21 (80 MHz, VHT); and whatever is wider. */
static const spectrum SPECTRA[] = {
    {32, 1, 26, {7, 21, 0, 0}},
    {64, 2, 58, {11, 25, 53, 0}},
    {128, 2, 122, {11, 39, 75, 103}},
    {INT16_MAX, 1, INT16_MAX, {0, 0, 0, 0}},
};

static int magnitude(int16_t index) { return index < 0 ? -index : index; }

/* The narrowest table that holds every index. */
static const spectrum *spectrum_of(const int16_t *ofdm_index, uint32_t count)
{
    int widest = 0;
    for (uint32_t k = 0; k < count; k++) {
        if (ofdm_index[k] != WDT_CHAIN_UNUSED && magnitude(ofdm_index[k]) > widest) {
            widest = magnitude(ofdm_index[k]);
        }
    }
    const spectrum *table = SPECTRA;
    while (widest > table->span) { /* ends: no used index is beyond the last span */
        table++;
    }
    return table;
}

static int is_usable(int16_t index, const spectrum *table)
{
    int m = magnitude(index);
    if (index == WDT_CHAIN_UNUSED || m < table->low || m > table->high) {
        return 0;
    }
    for (int i = 0; i < 4; i++) {
        if (m == table->pilots[i]) {
            return 0;
        }
    }
    return 1;
}

/* Usable columns that come before column k in the order of the spectrum; ties stand in the order of the columns.
 * Quadratic over all columns, once in a chain's life: it spares the sort its scratch memory. */
static uint32_t rank_of(const int16_t *ofdm_index, uint32_t count, uint32_t k, const int16_t *band)
{
    uint32_t rank = 0;
    for (uint32_t j = 0; j < count; j++) {
        if (band[j] >= 0 && (ofdm_index[j] < ofdm_index[k] || (ofdm_index[j] == ofdm_index[k] && j < k))) {
            rank++;
        }
    }
    return rank;
}

/* The group of item `rank` when n items are cut into groups, the first n % groups of them one item larger. */
static int16_t group_of(uint32_t rank, uint32_t n, uint32_t groups)
{
    uint32_t size = n / groups, larger = n % groups;
    if (rank < larger * (size + 1)) {
        return (int16_t)(rank / (size + 1));
    }
    return (int16_t)(larger + (rank - larger * (size + 1)) / size);
}

wdt_chain_status wdt_chain_assign_bands(const int16_t *ofdm_index, uint32_t count, uint32_t bands, int16_t *band)
{
    if (bands < 1 || bands > WDT_CHAIN_MAX_BANDS) {
        return WDT_CHAIN_E_PARAMS;
    }
    if (count < 1 || count > WDT_CHAIN_MAX_SUBCARRIERS) {
        return WDT_CHAIN_E_SHAPE;
    }
    const spectrum *table = NULL;
    uint32_t usable = count;
    if (ofdm_index != NULL) {
        table = spectrum_of(ofdm_index, count);
        usable = 0;
        for (uint32_t k = 0; k < count; k++) {
            usable += is_usable(ofdm_index[k], table) ? 1u : 0u;
        }
    }
    if (usable < bands) {
        return WDT_CHAIN_E_BANDS;
    }

    for (uint32_t k = 0; k < count; k++) { /* 0 marks a column as usable until its group is known */
        band[k] = table == NULL || is_usable(ofdm_index[k], table) ? 0 : -1;
    }
    for (uint32_t k = 0; k < count; k++) {
        if (band[k] >= 0) {
            band[k] = group_of(table == NULL ? k : rank_of(ofdm_index, count, k, band), usable, bands);
        }
    }
    return WDT_CHAIN_OK;
}

/* ---------------------------------------------------------------------------------------------------------- memory */

static int shape_is_valid(uint32_t antennas, uint32_t subcarriers)
{
    return antennas >= 1 && antennas <= WDT_CHAIN_MAX_ANTENNAS && subcarriers >= 1 &&
           subcarriers <= WDT_CHAIN_MAX_SUBCARRIERS;
}

size_t wdt_chain_bytes(const wdt_chain_params *params, uint32_t antennas, uint32_t subcarriers)
{
    if (wdt_chain_params_rule(params) != NULL || !shape_is_valid(antennas, subcarriers)) {
        return 0;
    }
    /* current, previous, inverse_gain, weight, motion, frame: below 2.2 MB by the maxima, so nothing overflows. */
    size_t floats = 2 * (size_t)antennas * subcarriers + antennas + 4 * (size_t)params->bands;
    size_t bytes = sizeof(wdt_chain) + floats * sizeof(float) + subcarriers * sizeof(int16_t);
    return (bytes + WDT_CHAIN_ALIGNMENT - 1) / WDT_CHAIN_ALIGNMENT * WDT_CHAIN_ALIGNMENT;
}

/* Points the chain's arrays at the memory behind it, in the order of wdt_chain_bytes(). */
static void lay_out(wdt_chain *chain)
{
    size_t packet = (size_t)chain->antennas * chain->subcarriers, bands = chain->params.bands;
    float *next = (float *)(void *)(chain + 1); /* aligned: the struct holds pointers and int64s */
    chain->current = next;
    chain->previous = chain->current + packet;
    chain->inverse_gain = chain->previous + packet;
    chain->weight = chain->inverse_gain + chain->antennas;
    chain->motion = chain->weight + bands;
    chain->frame = chain->motion + bands;
    chain->band = (int16_t *)(void *)(chain->frame + 2 * bands);
}

/* Each band's weight of one column, and how many columns are usable in all. */
static void weigh_bands(wdt_chain *chain)
{
    for (uint32_t k = 0; k < chain->subcarriers; k++) {
        if (chain->band[k] >= 0) {
            chain->weight[chain->band[k]] += 1.0f;
            chain->usable++;
        }
    }
    for (uint32_t b = 0; b < chain->params.bands; b++) {
        chain->weight[b] = 1.0f / (chain->weight[b] * (float)chain->antennas);
    }
}

wdt_chain_status wdt_chain_init(void *memory, size_t bytes, const wdt_chain_params *params, uint32_t antennas,
                                uint32_t subcarriers, const int16_t *ofdm_index, wdt_chain **chain)
{
    if (wdt_chain_params_rule(params) != NULL) {
        return WDT_CHAIN_E_PARAMS;
    }
    if (!shape_is_valid(antennas, subcarriers)) {
        return WDT_CHAIN_E_SHAPE;
    }
    size_t needed = wdt_chain_bytes(params, antennas, subcarriers);
    if (memory == NULL || bytes < needed || (uintptr_t)memory % WDT_CHAIN_ALIGNMENT != 0) {
        return WDT_CHAIN_E_MEMORY;
    }

    wdt_chain *made = memory;
    memset(made, 0, needed);
    *made = (wdt_chain){.params = *params, .antennas = antennas, .subcarriers = subcarriers};
    lay_out(made);
    wdt_chain_status status = wdt_chain_assign_bands(ofdm_index, subcarriers, params->bands, made->band);
    if (status != WDT_CHAIN_OK) {
        return status;
    }
    weigh_bands(made);
    made->alpha = -expm1f(-(float)params->period_us / (float)params->motion_time_us);
    *chain = made;
    return WDT_CHAIN_OK;
}

/* ------------------------------------------------------------------------------------------------- a packet's way in */

/* 1 / g of each antenna, g = sqrt(mean over the usable columns of a^2). 0 if the packet is not a measurement. */
static int measure_gains(wdt_chain *chain, const float *amplitude)
{
    for (uint32_t a = 0; a < chain->antennas; a++) {
        const float *row = amplitude + (size_t)a * chain->subcarriers; /* [K] */
        float power = 0.0f;
        for (uint32_t k = 0; k < chain->subcarriers; k++) {
            if (chain->band[k] < 0) {
                continue;
            }
            if (!(row[k] >= 0.0f)) { /* negative or NaN */
                return 0;
            }
            power += row[k] * row[k];
        }
        power /= (float)chain->usable;
        if (power < POWER_MIN || power > POWER_MAX) {
            return 0;
        }
        chain->inverse_gain[a] = 1.0f / sqrtf(power);
    }
    return 1;
}

/* X += (x - X) / packets, x = a / g: the mean as it stands after every packet. A plain sum would lose the last bits of
 * a crowded bin, and would not give back exactly x when every packet is x: stillness has to be zero motion. */
static void add_to_bin(wdt_chain *chain, const float *amplitude)
{
    if (chain->packets < COUNT_MAX) {
        chain->packets++;
    }
    float share = 1.0f / (float)chain->packets;
    for (uint32_t a = 0; a < chain->antennas; a++) {
        const float *row = amplitude + (size_t)a * chain->subcarriers;
        float *mean = chain->current + (size_t)a * chain->subcarriers;
        for (uint32_t k = 0; k < chain->subcarriers; k++) {
            if (chain->band[k] < 0) {
                continue;
            }
            float x = row[k] * chain->inverse_gain[a];
            mean[k] = chain->packets == 1 ? x : mean[k] + (x - mean[k]) * share;
        }
    }
}

/* ------------------------------------------------------------------------------------------------ a frame's way out */

/* level_b = mean |X_n|, d_b = mean |X_n - X_(n-1)| over antennas and columns of the band;
 * motion_b += alpha * (d_b - motion_b), or 0 in the segment's first frame. */
static void measure_bin(wdt_chain *chain)
{
    uint32_t bands = chain->params.bands;
    float *level = chain->frame, *step = chain->frame + bands; /* [B] each */
    memset(chain->frame, 0, 2 * (size_t)bands * sizeof(float));
    for (uint32_t a = 0; a < chain->antennas; a++) {
        const float *now = chain->current + (size_t)a * chain->subcarriers;
        const float *before = chain->previous + (size_t)a * chain->subcarriers;
        for (uint32_t k = 0; k < chain->subcarriers; k++) {
            int16_t b = chain->band[k];
            if (b < 0) {
                continue;
            }
            level[b] += now[k];
            step[b] += fabsf(now[k] - before[k]);
        }
    }
    for (uint32_t b = 0; b < bands; b++) {
        level[b] *= chain->weight[b];
        float d = step[b] * chain->weight[b];
        chain->motion[b] = chain->first ? 0.0f : chain->motion[b] + chain->alpha * (d - chain->motion[b]);
        step[b] = chain->motion[b]; /* from here on the frame's second half is what it is called: motion */
    }
}

/* The open bin becomes the frame that is due at its edge; X_n becomes X_(n-1). */
static void close_bin(wdt_chain *chain)
{
    measure_bin(chain);
    float *emptied = chain->previous;
    chain->previous = chain->current;
    chain->current = emptied;
    chain->packets = 0;
    chain->first = 0;
    chain->held = 0;
    chain->due = 1;
    chain->due_us = chain->edge_us;
}

wdt_chain_status wdt_chain_push(wdt_chain *chain, int64_t t_us, const float *amplitude)
{
    if (chain->due > 0) {
        return WDT_CHAIN_E_UNDRAINED;
    }
    if (t_us < -WDT_CHAIN_MAX_TIME_US || t_us > WDT_CHAIN_MAX_TIME_US) { /* from here on no time can overflow */
        chain->skipped++;
        return WDT_CHAIN_SKIPPED;
    }
    if (chain->started && t_us < chain->newest_us) {
        chain->late++;
        return WDT_CHAIN_LATE;
    }
    if (!measure_gains(chain, amplitude)) {
        chain->skipped++;
        return WDT_CHAIN_SKIPPED;
    }

    int64_t period = chain->params.period_us;
    if (chain->open && t_us - chain->newest_us > chain->params.max_gap_us) {
        close_bin(chain);
        chain->open = 0;
    } else if (chain->open && t_us >= chain->edge_us) {
        close_bin(chain);
        /* Below max_gap_us, so it fits 32 bits: a division that a small chip has. */
        uint32_t empty_bins = (uint32_t)(t_us - chain->edge_us) / chain->params.period_us;
        chain->due += empty_bins;
        chain->edge_us += period * (1 + (int64_t)empty_bins);
    }
    if (!chain->open) {
        chain->open = 1;
        chain->first = 1;
        chain->edge_us = t_us + period;
    }
    add_to_bin(chain, amplitude);
    chain->newest_us = t_us;
    chain->started = 1;
    return WDT_CHAIN_OK;
}

wdt_chain_status wdt_chain_next(wdt_chain *chain, float *frame, int64_t *time_us, uint8_t *held)
{
    if (chain->due == 0) {
        return WDT_CHAIN_NONE;
    }
    uint32_t bands = chain->params.bands;
    memcpy(frame, chain->frame, 2 * (size_t)bands * sizeof(float));
    *time_us = chain->due_us;
    *held = chain->held;
    chain->due--;
    chain->due_us += chain->params.period_us;
    if (chain->due > 0) { /* an empty bin follows: the levels stay, the step is 0, and the motion decays */
        chain->held = 1;
        for (uint32_t b = 0; b < bands; b++) {
            chain->motion[b] += chain->alpha * (0.0f - chain->motion[b]);
            chain->frame[bands + b] = chain->motion[b];
        }
    }
    return WDT_CHAIN_FRAME;
}

wdt_chain_status wdt_chain_flush(wdt_chain *chain)
{
    if (chain->due > 0) {
        return WDT_CHAIN_E_UNDRAINED;
    }
    if (chain->open) {
        close_bin(chain);
    }
    chain->open = 0;
    return WDT_CHAIN_OK;
}

uint64_t wdt_chain_skipped(const wdt_chain *chain) { return chain->skipped; }

uint64_t wdt_chain_late(const wdt_chain *chain) { return chain->late; }

/* -------------------------------------------------------------------------------------------------------- amplitude */

void wdt_chain_amplitude_iq8(const int8_t *iq, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        int re = iq[2 * i], im = iq[2 * i + 1];
        out[i] = sqrtf((float)(re * re + im * im)); /* at most 32768: exact before the root */
    }
}

void wdt_chain_amplitude_iq(const float *iq, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = sqrtf(iq[2 * i] * iq[2 * i] + iq[2 * i + 1] * iq[2 * i + 1]);
    }
}
