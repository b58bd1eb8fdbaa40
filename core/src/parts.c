/* What each part of a frame makes of the bins; the formulas are in docs/features.md, in this order. */
#include "parts.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ what there is */

uint32_t wdt_parts_of(const wdt_chain_params *params, wdt_chain_part *part)
{
    if (params->version == 1) {
        part[0] = (wdt_chain_part){.kind = WDT_PART_LEVEL, .bands = params->bands};
        part[1] = (wdt_chain_part){
            .kind = WDT_PART_MOTION, .bands = params->bands, .lag = 1, .time_us = params->motion_time_us};
        return 2;
    }
    const uint32_t count = params->n_parts <= WDT_CHAIN_MAX_PARTS ? params->n_parts : WDT_CHAIN_MAX_PARTS;
    memcpy(part, params->part, count * sizeof *part);
    return count;
}

/* At most WDT_CHAIN_MAX_PERIODS periods? Divided, because the product can exceed 32 bits. */
static int time_is_short(uint32_t time_us, uint32_t period_us)
{
    return time_us / period_us <= WDT_CHAIN_MAX_PERIODS;
}

const char *wdt_part_rule(const wdt_chain_part *part, uint32_t period_us)
{
    if (part->kind >= WDT_PART_KINDS) {
        return "a part's kind must be level, motion or quadrature";
    }
    if (part->bands < 1 || part->bands > WDT_CHAIN_MAX_BANDS) {
        return "a part's bands must be between 1 and 1024";
    }
    if (part->kind == WDT_PART_LEVEL ? part->lag != 0 : part->lag < 1 || part->lag > WDT_CHAIN_MAX_LAG) {
        return "the lag of motion and quadrature must be between 1 and 64, and that of level 0";
    }
    if (part->kind == WDT_PART_QUADRATURE && part->lag >= part->bands) {
        return "the lag of quadrature must be below its bands";
    }
    if (!time_is_short(part->time_us, period_us) || !time_is_short(part->size_us, period_us) ||
        (part->slow_us != WDT_CHAIN_SO_FAR && !time_is_short(part->slow_us, period_us))) {
        return "a part's times must be at most 10000 periods";
    }
    if (part->log_floor_ppm > WDT_CHAIN_MAX_FLOOR || (part->log_floor_ppm && part->kind == WDT_PART_QUADRATURE)) {
        return "log_floor must be at most 1, and that of a quadrature, which has a sign, 0";
    }
    if (part->size_us ? part->size_floor_ppm < 1 || part->size_floor_ppm > WDT_CHAIN_MAX_FLOOR : part->size_floor_ppm) {
        return "size_floor must be above 0 and at most 1 with size_us, and 0 without";
    }
    return NULL;
}

static uint32_t values_of(const wdt_chain_part *part)
{
    return part->kind == WDT_PART_QUADRATURE ? part->bands - part->lag : part->bands;
}

uint32_t wdt_part_features(const wdt_chain_part *part) { return values_of(part) + (part->size_us ? 1u : 0u); }

size_t wdt_part_floats(const wdt_chain_part *part)
{
    return 7 * (size_t)part->bands; /* weight, average, behind, open, closed, means [2] */
}

static float weight_of_newest(uint32_t time_us, uint32_t period_us)
{
    return time_us ? -expm1f(-(float)period_us / (float)time_us) : 1.0f;
}

wdt_chain_status wdt_part_init(wdt_part *part, const wdt_chain_part *is, uint32_t period_us, const int16_t *ofdm_index,
                               uint32_t subcarriers, float *memory, int16_t *band)
{
    const size_t bands = is->bands;
    *part = (wdt_part){
        .is = *is,
        .values = values_of(is),
        .features = wdt_part_features(is),
        .alpha = weight_of_newest(is->time_us, period_us),
        .slow = weight_of_newest(is->slow_us, period_us),
        .size_alpha = weight_of_newest(is->size_us, period_us),
        .log_floor = (float)is->log_floor_ppm * 1e-6f,
        .size_floor = (float)is->size_floor_ppm * 1e-6f,
        .band = band,
        .weight = memory,
        .average = memory + bands,
        .behind = memory + 2 * bands,
        .open = memory + 3 * bands,
        .closed = memory + 4 * bands,
        .means = memory + 5 * bands,
    };
    const wdt_chain_status status = wdt_chain_assign_bands(ofdm_index, subcarriers, is->bands, band);
    if (status != WDT_CHAIN_OK) {
        return status;
    }
    for (uint32_t k = 0; k < subcarriers; k++) {
        if (band[k] >= 0) {
            part->weight[band[k]] += 1.0f;
        }
    }
    for (size_t b = 0; b < bands; b++) {
        part->weight[b] = 1.0f / part->weight[b];
    }
    return WDT_CHAIN_OK;
}

/* ------------------------------------------------------------------------------------------------- a packet's phases */

/* means [B, 2]: C_b / g of one antenna's row [K, 2]. Divided by the gain before they are multiplied with each other: the
 * product of two amplitudes need not fit a float. */
static void band_means(const wdt_part *part, const float *row, float inverse_gain, uint32_t subcarriers)
{
    memset(part->means, 0, 2 * part->is.bands * sizeof *part->means);
    for (uint32_t k = 0; k < subcarriers; k++) {
        if (part->band[k] >= 0) {
            float *const mean = part->means + 2 * part->band[k];
            mean[0] += row[2 * k] * inverse_gain;
            mean[1] += row[2 * k + 1] * inverse_gain;
        }
    }
    for (uint32_t b = 0; b < part->is.bands; b++) {
        part->means[2 * b] *= part->weight[b];
        part->means[2 * b + 1] *= part->weight[b];
    }
}

void wdt_part_add(wdt_part *part, const float *iq, const float *inverse_gain, uint32_t antennas, uint32_t subcarriers,
                  uint32_t count)
{
    if (count == 1) {
        memset(part->open, 0, part->values * sizeof *part->open);
    }
    const float share = 1.0f / (float)count;
    for (uint32_t b = 0; b < part->values; b++) {
        part->open[b] -= part->open[b] * share; /* the mean of `count` packets, an antenna's share at a time */
    }
    for (uint32_t a = 0; a < antennas; a++) {
        band_means(part, iq + 2 * (size_t)a * subcarriers, inverse_gain[a], subcarriers);
        for (uint32_t b = 0; b < part->values; b++) {
            const float *const low = part->means + 2 * b, *const high = low + 2 * part->is.lag;
            part->open[b] += (high[1] * low[0] - high[0] * low[1]) * share / (float)antennas;
        }
    }
}

/* --------------------------------------------------------------------------------------------------- a bin that closes */

static const float *bin(const wdt_bins *bins, uint32_t back)
{
    const uint32_t slot = (bins->newest + bins->slots - back) % bins->slots;
    return bins->ring + (size_t)slot * bins->antennas * bins->subcarriers;
}

/* value [B] = mean of |X_n|, or of |X_n - before|, over antennas and the columns of each band. */
static void measure(const wdt_part *part, const wdt_bins *bins, const float *before, float *value)
{
    const float *const now = bin(bins, 0);
    const uint32_t K = bins->subcarriers;
    memset(value, 0, part->is.bands * sizeof *value);
    for (uint32_t a = 0; a < bins->antennas; a++) {
        for (uint32_t k = 0; k < K; k++) {
            const int16_t b = part->band[k];
            if (b >= 0) {
                const float x = now[(size_t)a * K + k];
                value[b] += before ? fabsf(x - before[(size_t)a * K + k]) : x;
            }
        }
    }
    for (uint32_t b = 0; b < part->is.bands; b++) {
        value[b] *= part->weight[b] / (float)bins->antennas;
    }
}

/* average [n] += alpha * (value - average). A segment's first value is taken as it is, and so is every one without an
 * average: adding the difference would round. */
static void follow(float *average, const float *value, uint32_t n, float alpha, int first)
{
    for (uint32_t b = 0; b < n; b++) {
        average[b] = first || alpha >= 1.0f ? value[b] : average[b] + alpha * (value[b] - average[b]);
    }
}

/* What one part measures in the newest bin, [values]. */
static void begin(const wdt_part *part, const wdt_bins *bins, float *value)
{
    if (part->is.kind == WDT_PART_QUADRATURE) {
        memcpy(value, part->closed, part->values * sizeof *value);
        return;
    }
    /* A segment's first bins look back to its first one, so the motion of the first is 0. */
    const uint32_t lag = part->is.lag < bins->closed ? part->is.lag : bins->closed - 1;
    measure(part, bins, part->is.kind == WDT_PART_MOTION ? bin(bins, lag) : NULL, value);
}

/* frame [values] / (size + floor), and log(size + floor) behind it. */
static void divide_by_size(wdt_part *part, float *frame, int first)
{
    float squares = 0.0f;
    for (uint32_t b = 0; b < part->values; b++) {
        squares += frame[b] * frame[b];
    }
    const float size = sqrtf(squares / (float)part->values);
    follow(&part->size, &size, 1, part->size_alpha, first);
    const float divisor = part->size + part->size_floor;
    for (uint32_t b = 0; b < part->values; b++) {
        frame[b] /= divisor;
    }
    frame[part->values] = logf(divisor);
}

void wdt_part_keep(wdt_part *part) { memcpy(part->closed, part->open, part->values * sizeof *part->open); }

void wdt_part_close(wdt_part *part, const wdt_bins *bins, float *frame)
{
    const uint32_t n = part->values;
    const int first = bins->closed == 1;
    begin(part, bins, frame);
    follow(part->average, frame, n, part->alpha, first);
    for (uint32_t b = 0; b < n; b++) {
        frame[b] = part->is.log_floor_ppm ? logf(part->average[b] + part->log_floor) : part->average[b];
    }
    if (part->is.slow_us) {
        const float newest = part->is.slow_us == WDT_CHAIN_SO_FAR ? 1.0f / (float)bins->closed : part->slow;
        follow(part->behind, frame, n, newest, first);
        for (uint32_t b = 0; b < n; b++) {
            frame[b] -= part->behind[b];
        }
    }
    if (part->is.size_us) {
        divide_by_size(part, frame, first);
    }
}
