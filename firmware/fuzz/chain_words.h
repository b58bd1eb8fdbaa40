/* Parameters of a feature chain from hostile bytes. */
#ifndef CHAIN_WORDS_H
#define CHAIN_WORDS_H

#include "fuzz.h"
#include "wdt_chain.h"

enum { MOST_CHAIN_BYTES = 1 << 19 };

/* In the order of a blob's record. */
static wdt_chain_params take_params(input *from)
{
    wdt_chain_params params;
    memset(&params, 0, sizeof params);
#define TAKE_WORD(name) params.name = take_number(from, 4);
    WDT_CHAIN_FIELDS(TAKE_WORD)
    if (params.version == 1) {
        return params;
    }
    params.frame_bins = take_number(from, 4);
    params.hold = take_number(from, 4);
    params.n_parts = take_number(from, 4);
    for (uint32_t p = 0; p < params.n_parts && p < WDT_CHAIN_MAX_PARTS; p++) {
#define TAKE_PART(name) params.part[p].name = take_number(from, 4);
        WDT_CHAIN_PART_FIELDS(TAKE_PART)
    }
    return params;
}

/* Whether a packet can make only so few frames due that an input takes no time. */
static int is_quick(const wdt_chain_params *params)
{
    return params->max_gap_us / params->period_us <= 128;
}

#endif
