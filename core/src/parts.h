/* The parts of a feature chain: what each makes of the bins that close. Internal to the chain. */
#ifndef WDT_PARTS_H
#define WDT_PARTS_H

#include "wdt_chain.h"

/* One part of a chain; its arrays lie in the chain's memory. */
typedef struct wdt_part {
    wdt_chain_part is;
    uint32_t values;   /* of each bin: B, or B - lag of a quadrature */
    uint32_t features; /* of a frame: the values, and one more with size_us */
    float alpha, slow, size_alpha; /* weight of the newest value in the averages of time_us, slow_us, size_us */
    float log_floor, size_floor;
    float size;      /* the average of size_us */
    int16_t *band;   /* [K] */
    float *weight;   /* [B] 1 / columns of the band */
    float *average;  /* [values] over time_us */
    float *behind;   /* [values] over slow_us */
    float *open;     /* [values] of a quadrature: mean over the open bin's packets */
    float *closed;   /* [values] of a quadrature: that of the last bin with a packet */
    float *means;    /* [B, 2] of the packet and antenna in hand */
} wdt_part;

/* The closed bins that the parts look at: the newest and those up to the longest lag before it. */
typedef struct wdt_bins {
    uint32_t antennas, subcarriers; /* A, K */
    uint32_t slots;                 /* of the ring: the longest lag + 1 */
    uint32_t newest;                /* slot */
    uint32_t closed;                /* bins of this segment, at most 2^24: up to there a float counts exactly */
    float *ring;                    /* [slots, A, K] X_n */
} wdt_bins;

/* The parts of parameters, `part` [WDT_CHAIN_MAX_PARTS]; returns how many, at most that. Version 1 has two. */
uint32_t wdt_parts_of(const wdt_chain_params *params, wdt_chain_part *part);

/* NULL if the part is valid in bins of period_us, else the rule that it breaks. */
const char *wdt_part_rule(const wdt_chain_part *part, uint32_t period_us);

/* Features of a part. */
uint32_t wdt_part_features(const wdt_chain_part *part);

/* Floats of memory that a part's arrays take, but for `band`. */
size_t wdt_part_floats(const wdt_chain_part *part);

/* Points the part's arrays at `memory` (wdt_part_floats() of them, zero) and `band` [K], which it fills.
 * WDT_CHAIN_OK, or WDT_CHAIN_E_BANDS. */
wdt_chain_status wdt_part_init(wdt_part *part, const wdt_chain_part *is, uint32_t period_us, const int16_t *ofdm_index,
                               uint32_t subcarriers, float *memory, int16_t *band);

/* Takes a packet's phases into a quadrature's open bin, as its packet number `count`, from 1.
 *   iq            [A, K, 2]
 *   inverse_gain  [A] 1 / g */
void wdt_part_add(wdt_part *part, const float *iq, const float *inverse_gain, uint32_t antennas, uint32_t subcarriers,
                  uint32_t count);

/* The open bin ends: a quadrature keeps its mean, before the next packet goes into it. */
void wdt_part_keep(wdt_part *part);

/* The newest bin of `bins` is measured: the part's averages move on, and its values go to frame [features]. */
void wdt_part_close(wdt_part *part, const wdt_bins *bins, float *frame);

#endif
