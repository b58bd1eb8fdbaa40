/* temporal_features.h: which column of a buffer is which subcarrier, and the way of a buffer into the chain. */
#include "temporal_features.h"

#include "wdt_model.h"

#define LEGACY_COLUMNS 64u

struct temporal_features {
    wdt_chain *chain;
    uint32_t columns; /* of a buffer that are used, from its first */
    uint32_t shift;   /* column k of the chain is number (k + shift) % columns of the buffer */
    uint16_t values;
    uint8_t needs_phase;
    float *packet; /* [columns] amplitudes, or [columns, 2] real and imaginary parts */
};

/* ---------------------------------------------------------------------------------------------------------- layout */

static int begins_with_legacy_field(size_t values)
{
    return values == 128 || values == 256 || values == 376 || values == 384 || values == 612;
}

/* Mean amplitude of `count` columns. */
static float loudness(const int8_t *csi, const uint8_t *column, int count)
{
    float sum = 0.0f;
    for (int c = 0; c < count; c++) {
        float amplitude;
        wdt_chain_amplitude_iq8(csi + 2 * column[c], 1, &amplitude);
        sum += amplitude;
    }
    return sum / (float)count;
}

esp_err_t temporal_features_layout_of(const int8_t *csi, size_t values, int first_word_invalid,
                                      temporal_features_layout_t *layout)
{
    /* Columns that are guards in one order and lie amid used subcarriers in the other; never the first two. */
    static const uint8_t guards_fft[] = {30, 31, 33, 34}, guards_ascending[] = {2, 3, 61, 62, 63};
    if (csi == NULL || layout == NULL || values < 2 || values > TEMPORAL_FEATURES_MAX_VALUES || values % 2 != 0) {
        return ESP_ERR_INVALID_ARG;
    }
    temporal_features_order_t order = TEMPORAL_FEATURES_UNKNOWN;
    if (begins_with_legacy_field(values)) {
        const float fft = loudness(csi, guards_fft, (int)sizeof guards_fft);
        const float ascending = loudness(csi, guards_ascending, (int)sizeof guards_ascending);
        if (fft < 0.25f * ascending) {
            order = TEMPORAL_FEATURES_FFT;
        } else if (ascending < 0.25f * fft) {
            order = TEMPORAL_FEATURES_ASCENDING;
        } else {
            return ESP_ERR_NOT_FOUND;
        }
    }
    *layout = (temporal_features_layout_t){(uint16_t)values, order, first_word_invalid != 0};
    return ESP_OK;
}

static int is_layout(const temporal_features_layout_t *layout)
{
    const size_t values = layout->values;
    return values >= 2 && values <= TEMPORAL_FEATURES_MAX_VALUES && values % 2 == 0 &&
           (layout->order == TEMPORAL_FEATURES_UNKNOWN ||
            ((layout->order == TEMPORAL_FEATURES_FFT || layout->order == TEMPORAL_FEATURES_ASCENDING) &&
             begins_with_legacy_field(values)));
}

static uint32_t columns_of(const temporal_features_layout_t *layout)
{
    return begins_with_legacy_field(layout->values) ? LEGACY_COLUMNS : (uint32_t)layout->values / 2;
}

/* ---------------------------------------------------------------------------------------------------------- memory */

static size_t round_up(size_t bytes)
{
    return (bytes + TEMPORAL_FEATURES_ALIGNMENT - 1) / TEMPORAL_FEATURES_ALIGNMENT * TEMPORAL_FEATURES_ALIGNMENT;
}

/* Bytes before the chain's: this struct and the packet. At most about 4 KB. */
static size_t own_bytes(const wdt_model *model, const temporal_features_layout_t *layout)
{
    const size_t floats = columns_of(layout) * (wdt_chain_needs_phase(&model->chain) ? 2u : 1u);
    return round_up(sizeof(temporal_features_t)) + round_up(floats * sizeof(float));
}

size_t temporal_features_bytes(const struct wdt_model *model, const temporal_features_layout_t *layout)
{
    if (model == NULL || layout == NULL || !is_layout(layout) ||
        wdt_chain_features(&model->chain) != (uint32_t)model->features) {
        return 0;
    }
    const size_t chain = wdt_chain_bytes(&model->chain, 1, columns_of(layout));
    return chain > 0 ? own_bytes(model, layout) + chain : 0;
}

/* index [64]: -32..31, and of the first two pairs of the buffer none where they are invalid. */
static void number_columns(const temporal_features_layout_t *layout, int16_t *index)
{
    const int first = layout->order == TEMPORAL_FEATURES_FFT ? 32 : 0; /* where the buffer's first pair goes */
    for (int k = 0; k < (int)LEGACY_COLUMNS; k++) {
        index[k] = (int16_t)(k - (int)LEGACY_COLUMNS / 2);
    }
    if (layout->first_word_invalid) {
        index[first] = index[first + 1] = WDT_CHAIN_UNUSED;
    }
}

esp_err_t temporal_features_init(void *memory, size_t bytes, const struct wdt_model *model,
                                 const temporal_features_layout_t *layout, temporal_features_t **features)
{
    if (memory == NULL || model == NULL || layout == NULL || features == NULL || !is_layout(layout) ||
        (uintptr_t)memory % TEMPORAL_FEATURES_ALIGNMENT != 0) {
        return ESP_ERR_INVALID_ARG;
    }
    const size_t needed = temporal_features_bytes(model, layout), own = own_bytes(model, layout);
    if (needed == 0) {
        return ESP_ERR_INVALID_SIZE;
    }
    if (bytes < needed) {
        return ESP_ERR_NO_MEM;
    }
    int16_t index[LEGACY_COLUMNS];
    const int numbered = layout->order != TEMPORAL_FEATURES_UNKNOWN;
    if (numbered) {
        number_columns(layout, index);
    }
    wdt_chain *chain;
    if (wdt_chain_init((char *)memory + own, bytes - own, &model->chain, 1, columns_of(layout),
                       numbered ? index : NULL, &chain) != WDT_CHAIN_OK) {
        return ESP_ERR_INVALID_SIZE;
    }
    temporal_features_t *const made = memory;
    *made = (temporal_features_t){
        .chain = chain,
        .columns = columns_of(layout),
        .shift = layout->order == TEMPORAL_FEATURES_FFT ? LEGACY_COLUMNS / 2 : 0,
        .values = layout->values,
        .needs_phase = wdt_chain_needs_phase(&model->chain) != 0,
        .packet = (float *)(void *)((char *)memory + round_up(sizeof *made)),
    };
    *features = made;
    return ESP_OK;
}

/* ------------------------------------------------------------------------------------------------------------ time */

#define STRAY_US 10000000

int64_t temporal_features_time(temporal_features_clock_t *clock, int64_t coarse_us, uint32_t stamp_us)
{
    const uint32_t ahead_us = stamp_us - (uint32_t)coarse_us;
    const int32_t strays_us = (int32_t)(ahead_us - clock->ahead_us);
    if (!clock->begun || strays_us >= STRAY_US || strays_us <= -STRAY_US) {
        *clock = (temporal_features_clock_t){ahead_us, 1};
        return coarse_us;
    }
    return coarse_us + strays_us;
}

/* --------------------------------------------------------------------------------------------------- a buffer's way */

static esp_err_t error_of(wdt_chain_status status)
{
    switch (status) {
    case WDT_CHAIN_OK:
        return ESP_OK;
    case WDT_CHAIN_E_UNDRAINED:
        return ESP_ERR_INVALID_STATE;
    default:
        return ESP_ERR_INVALID_RESPONSE;
    }
}

esp_err_t temporal_features_push(temporal_features_t *features, const int8_t *csi, size_t values, int64_t t_us)
{
    if (features == NULL || csi == NULL) {
        return ESP_ERR_INVALID_ARG;
    }
    if (values != features->values) {
        return ESP_ERR_INVALID_SIZE;
    }
    float *const packet = features->packet;
    for (uint32_t k = 0; k < features->columns; k++) { /* in ascending order: sums over columns depend on it */
        const int8_t *const pair = csi + 2 * ((k + features->shift) % features->columns);
        if (features->needs_phase) {
            packet[2 * k] = pair[1];
            packet[2 * k + 1] = pair[0];
        } else {
            wdt_chain_amplitude_iq8(pair, 1, &packet[k]);
        }
    }
    return error_of(features->needs_phase ? wdt_chain_push_iq(features->chain, t_us, packet)
                                          : wdt_chain_push(features->chain, t_us, packet));
}

esp_err_t temporal_features_next(temporal_features_t *features, float *frame)
{
    int64_t time_us;
    uint8_t held;
    if (features == NULL || frame == NULL) {
        return ESP_ERR_INVALID_ARG;
    }
    return wdt_chain_next(features->chain, frame, &time_us, &held) == WDT_CHAIN_FRAME ? ESP_OK : ESP_ERR_NOT_FOUND;
}

esp_err_t temporal_features_flush(temporal_features_t *features)
{
    return features == NULL ? ESP_ERR_INVALID_ARG : error_of(wdt_chain_flush(features->chain));
}
