/* The feature chain; wdt_chain.h is its contract and docs/features.md its reasons.
 *
 * Read from top to bottom: the rules, the memory, then a packet's way: gains, bin, frame, hand-out. What a frame is made
 * of is in parts.c, which columns belong to which band in bands.c.
 * Not here: parsing of packets, any decision. Float32 only: the chips that run this have no double unit.
 */
#include "wdt_chain.h"

#include <math.h>
#include <string.h>

#include "parts.h"

/* A bin's mean counts at most this many packets: up to 2^24 a float holds the count exactly. */
#define COUNT_MAX (1u << 24)
/* Mean square amplitudes within which neither the squares nor the division lose precision in float32. */
#define POWER_MIN 1e-30f
#define POWER_MAX 1e30f

struct wdt_chain {
    wdt_chain_params params;
    uint32_t antennas, subcarriers; /* A, K */
    uint32_t usable;                /* columns with a band */
    uint32_t frame_bins;            /* bins of a frame */
    uint32_t hold;                  /* empty bins are held */
    uint32_t features;              /* F */
    uint32_t n_parts;
    wdt_part part[WDT_CHAIN_MAX_PARTS];
    wdt_bins bins; /* closed */

    /* Arrays behind this struct, in the caller's memory. Columns without a band are never looked at. */
    float *current;      /* [A, K] X_n so far: the mean over the open bin's packets */
    float *inverse_gain; /* [A] 1 / g of the packet in hand */
    float *frame;        /* [F] the parts as of the newest bin that was measured */

    int64_t newest_us; /* the newest packet taken, once `started` */
    int64_t edge_us;   /* end of the open bin */
    int64_t due_us;    /* end of the next bin that is due */
    uint32_t due;      /* closed bins whose parts are still to be measured; behind the first one all are empty */
    uint32_t packets;  /* in the open bin */
    uint32_t gathered; /* bins measured since the last frame */
    uint8_t needs_phase;   /* a part is of phases: amplitudes alone are refused */
    uint8_t started, open; /* any packet yet; a bin is open */
    uint8_t fresh;         /* a bin since the last frame had a packet */
    uint8_t empty;         /* the next bin that is due had none */
    uint8_t ending;        /* the segment is over: its last bin makes a frame, complete or not */
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

/* The rules of version 1's own fields, or of version 2's. */
static const char *content_rule(const wdt_chain_params *params)
{
    if (params->version == 1) {
        if (params->bands < 1 || params->bands > WDT_CHAIN_MAX_BANDS) {
            return "bands must be between 1 and 1024";
        }
        return within_periods(params->motion_time_us, params->period_us)
                   ? NULL
                   : "motion_time_us must be at least 1 and at most 10000 periods";
    }
    if (params->bands != 0 || params->motion_time_us != 0) {
        return "bands and motion_time_us must be 0 where a chain lists its parts";
    }
    if (params->frame_bins < 1 || params->frame_bins > WDT_CHAIN_MAX_FRAME_BINS) {
        return "frame_bins must be between 1 and 1000";
    }
    if (params->hold > 1) {
        return "hold must be 0 or 1";
    }
    if (params->n_parts < 1 || params->n_parts > WDT_CHAIN_MAX_PARTS) {
        return "a chain must have 1 to 12 parts";
    }
    const char *broken = NULL;
    for (uint32_t p = 0; p < params->n_parts && broken == NULL; p++) {
        broken = wdt_part_rule(&params->part[p], params->period_us);
    }
    return broken;
}

const char *wdt_chain_params_rule(const wdt_chain_params *params)
{
    if (params->version != 1 && params->version != 2) {
        return "version must be 1 or 2: this release knows no other feature chain";
    }
    if (params->period_us < WDT_CHAIN_MIN_PERIOD_US || params->period_us > WDT_CHAIN_MAX_PERIOD_US) {
        return "period_us must be between 100 and 10000000, that is 10000 to 0.1 bins a second";
    }
    if (!within_periods(params->max_gap_us, params->period_us)) {
        return "max_gap_us must be at least 1 and at most 10000 periods";
    }
    return content_rule(params);
}

uint32_t wdt_chain_features(const wdt_chain_params *params)
{
    wdt_chain_part part[WDT_CHAIN_MAX_PARTS];
    const uint32_t count = wdt_parts_of(params, part);
    uint32_t features = 0;
    for (uint32_t p = 0; p < count; p++) {
        features += wdt_part_features(&part[p]);
    }
    return features;
}

/* ---------------------------------------------------------------------------------------------------------- memory */

static int shape_is_valid(uint32_t antennas, uint32_t subcarriers)
{
    return antennas >= 1 && antennas <= WDT_CHAIN_MAX_ANTENNAS && subcarriers >= 1 &&
           subcarriers <= WDT_CHAIN_MAX_SUBCARRIERS;
}

/* Closed bins that have to be kept: the newest, and as many before it as motion looks back. */
static uint32_t slots_of(const wdt_chain_part *part, uint32_t count)
{
    uint32_t lag = 0;
    for (uint32_t p = 0; p < count; p++) {
        if (part[p].kind == WDT_PART_MOTION && part[p].lag > lag) {
            lag = part[p].lag;
        }
    }
    return lag + 1;
}

size_t wdt_chain_bytes(const wdt_chain_params *params, uint32_t antennas, uint32_t subcarriers)
{
    if (wdt_chain_params_rule(params) != NULL || !shape_is_valid(antennas, subcarriers)) {
        return 0;
    }
    wdt_chain_part part[WDT_CHAIN_MAX_PARTS];
    const uint32_t count = wdt_parts_of(params, part);
    /* The ring, current, inverse_gain, frame, and the parts: below 21 MB by the maxima, so nothing overflows. */
    size_t floats =
        (1 + (size_t)slots_of(part, count)) * antennas * subcarriers + antennas + wdt_chain_features(params);
    for (uint32_t p = 0; p < count; p++) {
        floats += wdt_part_floats(&part[p]);
    }
    const size_t bytes =
        sizeof(wdt_chain) + floats * sizeof(float) + count * (size_t)subcarriers * sizeof(int16_t);
    return (bytes + WDT_CHAIN_ALIGNMENT - 1) / WDT_CHAIN_ALIGNMENT * WDT_CHAIN_ALIGNMENT;
}

/* Points the chain's arrays at the memory behind it, in the order of wdt_chain_bytes(), and makes the parts. */
static wdt_chain_status lay_out(wdt_chain *chain, const int16_t *ofdm_index)
{
    const uint32_t A = chain->antennas, K = chain->subcarriers;
    const size_t packet = (size_t)A * K;
    wdt_chain_part part[WDT_CHAIN_MAX_PARTS];
    chain->features = wdt_chain_features(&chain->params);
    chain->n_parts = wdt_parts_of(&chain->params, part);
    chain->bins = (wdt_bins){.antennas = A, .subcarriers = K, .slots = slots_of(part, chain->n_parts)};

    float *next = (float *)(void *)(chain + 1); /* aligned: the struct holds pointers and int64s */
    chain->bins.ring = next;
    chain->current = chain->bins.ring + chain->bins.slots * packet;
    chain->inverse_gain = chain->current + packet;
    chain->frame = chain->inverse_gain + A;
    next = chain->frame + chain->features;
    size_t floats = 0;
    for (uint32_t p = 0; p < chain->n_parts; p++) {
        floats += wdt_part_floats(&part[p]);
    }
    int16_t *band = (int16_t *)(void *)(next + floats);
    for (uint32_t p = 0; p < chain->n_parts; p++, band += K) {
        const wdt_chain_status status =
            wdt_part_init(&chain->part[p], &part[p], chain->params.period_us, ofdm_index, K, next, band);
        if (status != WDT_CHAIN_OK) {
            return status;
        }
        next += wdt_part_floats(&part[p]);
    }
    return WDT_CHAIN_OK;
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
    made->params = *params;
    made->antennas = antennas;
    made->subcarriers = subcarriers;
    made->frame_bins = params->version == 1 ? 1 : params->frame_bins;
    made->hold = params->version == 1 ? 1 : params->hold;
    made->needs_phase = wdt_chain_needs_phase(params) ? 1 : 0;
    wdt_chain_status status = lay_out(made, ofdm_index);
    if (status != WDT_CHAIN_OK) {
        return status;
    }
    for (uint32_t k = 0; k < subcarriers; k++) { /* every part leaves out the same columns */
        made->usable += made->part[0].band[k] >= 0 ? 1u : 0u;
    }
    *chain = made;
    return WDT_CHAIN_OK;
}

/* ------------------------------------------------------------------------------------------------- a packet's way in */

/* A packet as it comes: one of the two is NULL. */
typedef struct packet {
    const float *amplitude; /* [A, K] */
    const float *iq;        /* [A, K, 2] */
} packet;

static float magnitude_of(const float *pair) { return sqrtf(pair[0] * pair[0] + pair[1] * pair[1]); }

static float amplitude_of(packet from, size_t i) { return from.iq ? magnitude_of(from.iq + 2 * i) : from.amplitude[i]; }

/* 1 / g of each antenna, g = sqrt(mean over the usable columns of a^2). 0 if the packet is not a measurement. */
static int measure_gains(wdt_chain *chain, packet from)
{
    const int16_t *const band = chain->part[0].band;
    for (uint32_t a = 0; a < chain->antennas; a++) {
        const size_t row = (size_t)a * chain->subcarriers;
        float power = 0.0f;
        for (uint32_t k = 0; k < chain->subcarriers; k++) {
            if (band[k] < 0) {
                continue;
            }
            const float x = amplitude_of(from, row + k);
            if (!(x >= 0.0f)) { /* negative or NaN */
                return 0;
            }
            power += x * x;
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
static void add_to_bin(wdt_chain *chain, packet from)
{
    const int16_t *const band = chain->part[0].band;
    if (chain->packets < COUNT_MAX) {
        chain->packets++;
    }
    float share = 1.0f / (float)chain->packets;
    for (uint32_t a = 0; a < chain->antennas; a++) {
        const size_t row = (size_t)a * chain->subcarriers;
        float *mean = chain->current + row;
        for (uint32_t k = 0; k < chain->subcarriers; k++) {
            if (band[k] < 0) {
                continue;
            }
            float x = amplitude_of(from, row + k) * chain->inverse_gain[a];
            mean[k] = chain->packets == 1 ? x : mean[k] + (x - mean[k]) * share;
        }
    }
    for (uint32_t p = 0; p < chain->n_parts; p++) {
        if (chain->part[p].is.kind == WDT_PART_QUADRATURE) {
            wdt_part_add(&chain->part[p], from.iq, chain->inverse_gain, chain->antennas, chain->subcarriers,
                         chain->packets);
        }
    }
}

/* ------------------------------------------------------------------------------------------------ a frame's way out */

/* X_n [A, K] becomes the newest closed bin. */
static void append_bin(wdt_bins *bins, const float *X)
{
    const size_t packet = (size_t)bins->antennas * bins->subcarriers;
    bins->newest = (bins->newest + 1) % bins->slots;
    float *const slot = bins->ring + bins->newest * packet;
    if (slot != X) {
        memcpy(slot, X, packet * sizeof *X);
    }
    if (bins->closed < COUNT_MAX) {
        bins->closed++;
    }
}

/* The open bin is due, and `empty_bins` behind it. */
static void close_bin(wdt_chain *chain, uint32_t empty_bins)
{
    append_bin(&chain->bins, chain->current);
    for (uint32_t p = 0; p < chain->n_parts; p++) {
        wdt_part_keep(&chain->part[p]);
    }
    chain->packets = 0;
    chain->due = 1 + empty_bins;
    chain->due_us = chain->edge_us;
    chain->empty = 0;
}

static wdt_chain_status take(wdt_chain *chain, int64_t t_us, packet from)
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
    if (!measure_gains(chain, from)) {
        chain->skipped++;
        return WDT_CHAIN_SKIPPED;
    }

    int64_t period = chain->params.period_us;
    if (chain->open && t_us - chain->newest_us > chain->params.max_gap_us) {
        close_bin(chain, 0);
        chain->ending = 1;
        chain->open = 0;
    } else if (chain->open && t_us >= chain->edge_us) {
        /* Below max_gap_us, so it fits 32 bits: a division that a small chip has. */
        uint32_t empty_bins = (uint32_t)(t_us - chain->edge_us) / chain->params.period_us;
        close_bin(chain, chain->hold ? empty_bins : 0);
        chain->edge_us += period * (1 + (int64_t)empty_bins);
    }
    if (!chain->open) {
        chain->open = 1;
        chain->edge_us = t_us + period;
    }
    add_to_bin(chain, from);
    chain->newest_us = t_us;
    chain->started = 1;
    return WDT_CHAIN_OK;
}

int wdt_chain_needs_phase(const wdt_chain_params *params)
{
    wdt_chain_part part[WDT_CHAIN_MAX_PARTS];
    const uint32_t count = wdt_parts_of(params, part);
    for (uint32_t p = 0; p < count; p++) {
        if (part[p].kind == WDT_PART_QUADRATURE) {
            return 1;
        }
    }
    return 0;
}

wdt_chain_status wdt_chain_push(wdt_chain *chain, int64_t t_us, const float *amplitude)
{
    const packet from = {amplitude, NULL};
    return chain->needs_phase ? WDT_CHAIN_E_PHASE : take(chain, t_us, from);
}

wdt_chain_status wdt_chain_push_iq(wdt_chain *chain, int64_t t_us, const float *iq)
{
    const packet from = {NULL, iq};
    return take(chain, t_us, from);
}

/* The parts as of the next bin that is due. */
static void measure_bin(wdt_chain *chain)
{
    if (chain->empty) { /* X_n = X_(n-1) */
        wdt_bins *const bins = &chain->bins;
        append_bin(bins, bins->ring + (size_t)bins->newest * bins->antennas * bins->subcarriers);
    }
    float *frame = chain->frame;
    for (uint32_t p = 0; p < chain->n_parts; p++) {
        wdt_part_close(&chain->part[p], &chain->bins, frame);
        frame += chain->part[p].features;
    }
}

wdt_chain_status wdt_chain_next(wdt_chain *chain, float *frame, int64_t *time_us, uint8_t *held)
{
    while (chain->due > 0) {
        measure_bin(chain);
        const int64_t end_us = chain->due_us;
        chain->due_us += chain->params.period_us;
        chain->due--;
        chain->gathered++;
        chain->fresh |= !chain->empty;
        chain->empty = 1;
        const int last = chain->ending && chain->due == 0;
        if (last) {
            chain->bins.closed = 0;
            chain->ending = 0;
        }
        if (last || chain->gathered == chain->frame_bins) {
            memcpy(frame, chain->frame, chain->features * sizeof *frame);
            *time_us = end_us;
            *held = !chain->fresh;
            chain->gathered = 0;
            chain->fresh = 0;
            return WDT_CHAIN_FRAME;
        }
    }
    return WDT_CHAIN_NONE;
}

wdt_chain_status wdt_chain_flush(wdt_chain *chain)
{
    if (chain->due > 0) {
        return WDT_CHAIN_E_UNDRAINED;
    }
    if (chain->open) {
        close_bin(chain, 0);
        chain->ending = 1;
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
        out[i] = magnitude_of(iq + 2 * i);
    }
}
