/* Which band each subcarrier column belongs to; wdt_chain.h is the contract and docs/features.md has the reasons. */
#include "wdt_chain.h"

#include <stddef.h>

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
