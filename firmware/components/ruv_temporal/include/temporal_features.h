/* From the CSI buffers of the WiFi driver to the frames that a model was trained on: the blob's feature chain
 * (wdt_chain.h) over one link's packets, in memory of the caller's.
 *
 * A buffer is read as the host reads a recording (csi/esp32_csv.py, csi/subcarriers.py), so that both make the same
 * frames, bit for bit: int8 pairs, the imaginary part first; of a buffer with several training fields the first, the
 * legacy one of 64 subcarriers; columns in ascending order; the first four bytes left out where the driver calls them
 * invalid. The host has a whole recording to tell order and invalid bytes by; a node has its first buffer, and the
 * driver's word.
 * Not here: whose packets they are. The caller passes one sender's.
 *
 *     temporal_features_layout_of(csi, values, first_word_invalid, &layout);       of the first buffer
 *     temporal_features_init(memory, sizeof memory, model, &layout, &features);
 *     for every buffer:  t_us = temporal_features_time(&clock, esp_timer_get_time() at reception, rx_ctrl.timestamp);
 *                        temporal_features_push(features, csi, values, t_us);
 *                        while (temporal_features_next(features, frame) == ESP_OK) use(frame);
 */
#ifndef TEMPORAL_FEATURES_H
#define TEMPORAL_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TEMPORAL_FEATURES_MAX_VALUES 1024
#define TEMPORAL_FEATURES_ALIGNMENT 8 /* of the memory, bytes */

/* Which subcarrier each pair of a buffer is of. */
typedef enum {
    TEMPORAL_FEATURES_FFT = 0,       /* 0..31, then -32..-1: how the driver documents it */
    TEMPORAL_FEATURES_ASCENDING = 1, /* -32..31: as some chips give it */
    TEMPORAL_FEATURES_UNKNOWN = 2    /* every column is used, in its order */
} temporal_features_order_t;

typedef struct {
    uint16_t values; /* int8 numbers of a buffer, `len` of the driver: even, 2..TEMPORAL_FEATURES_MAX_VALUES */
    temporal_features_order_t order; /* UNKNOWN unless the buffer begins with a legacy field */
    uint8_t first_word_invalid; /* 1: in a known order, the first two pairs are never looked at */
} temporal_features_layout_t;

/* The layout of a buffer, told as the host tells it: 128, 256, 376, 384 or 612 values begin with a legacy field, whose
 * order shows in where its guard bands are silent. ESP_ERR_INVALID_ARG: a NULL, or such a number of values as no buffer
 * has. ESP_ERR_NOT_FOUND: this buffer does not show the order; the next may. */
esp_err_t temporal_features_layout_of(const int8_t *csi, size_t values, int first_word_invalid,
                                      temporal_features_layout_t *layout);

struct wdt_model;
typedef struct temporal_features temporal_features_t; /* lives in the caller's memory; one task at a time */

/* Bytes of memory for this model's chain over such buffers; 0 where init refuses. */
size_t temporal_features_bytes(const struct wdt_model *model, const temporal_features_layout_t *layout);

/* Makes an empty chain in `memory`, which the caller keeps; model and layout are read only here. A model that does not
 * state its chain (has_chain 0) is taken to be of the default one.
 * ESP_ERR_INVALID_ARG   a NULL, memory that is not aligned, a layout that is none
 * ESP_ERR_INVALID_SIZE  the chain has another number of features than the model, or more bands than columns
 * ESP_ERR_NO_MEM        fewer than temporal_features_bytes() */
esp_err_t temporal_features_init(void *memory, size_t bytes, const struct wdt_model *model,
                                 const temporal_features_layout_t *layout, temporal_features_t **features);

/* The driver stamps a packet in 32 bits of microseconds, which wrap after 71 minutes. This tells such stamps apart by
 * coarse_us, what esp_timer_get_time() said in the driver's callback: between two packets as much time passes as between
 * their stamps, exactly, and as between their coarse times, nearly, however long the silence between them was. The first
 * call gives coarse_us, and so does one whose stamp strays from it by 10 s: then one of the clocks was set anew. */
typedef struct {
    uint32_t ahead_us; /* the stamps' clock of the other one, modulo 2^32 */
    uint8_t begun;
} temporal_features_clock_t; /* {0} before the first packet */
int64_t temporal_features_time(temporal_features_clock_t *clock, int64_t coarse_us, uint32_t stamp_us);

/* Takes one buffer that arrived at t_us, microseconds on any clock; csi is read during the call. A refused one changes
 * nothing but the chain's counters.
 * ESP_ERR_INVALID_ARG       a NULL
 * ESP_ERR_INVALID_SIZE      not as many values as the layout's: the host leaves such packets out as well
 * ESP_ERR_INVALID_STATE     frames are due: call next until there is none
 * ESP_ERR_INVALID_RESPONSE  no measurement (all zero), or older than the newest one */
esp_err_t temporal_features_push(temporal_features_t *features, const int8_t *csi, size_t values, int64_t t_us);

/* Writes the oldest frame that is due, [model->features]. ESP_ERR_NOT_FOUND: there is none. */
esp_err_t temporal_features_next(temporal_features_t *features, float *frame);

/* Ends the segment: what is open becomes due. ESP_ERR_INVALID_STATE as of push. */
esp_err_t temporal_features_flush(temporal_features_t *features);

#ifdef __cplusplus
}
#endif
#endif
