/* Many tracks of one model, a frame of each in one call: a group of tracks goes through each stage of the model
 * together, so that weights are read once for all of them. Every track's answers are those of wdt_stream_push(), bit
 * for bit. */
#ifndef WDT_STREAMS_H
#define WDT_STREAMS_H

#include "wdt_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One track's part of a call. */
typedef struct wdt_push {
    wdt_stream *stream; /* of wdt_stream_init_state(), or of wdt_stream_init() */
    const float *frame; /* [F], may be anything */
    float *logits, *embedding; /* [C] and [E], written where the track is not refused */
    wdt_status status;  /* WDT_OK, or why this track is refused, and is as it was: as wdt_stream_push(), and
                         * WDT_E_NON_FINITE for a frame with NaN, infinity or a number beyond WDT_MAX_VALUE */
} wdt_push;

/* Bytes of scratch, which is one thread's own and of which nothing is kept; SIZE_MAX if not addressable. */
size_t wdt_streams_scratch_bytes(const wdt_model *model);

/* Pushes n frames, each of another stream of this model. scratch: aligned for float. */
void wdt_streams_push(const wdt_model *model, wdt_push *pushes, ptrdiff_t n, void *scratch);

/* What a stream of this configuration keeps, as bytes that are good wherever it lies: loaded into a stream of the same
 * model and configuration, it goes on with the same bits. Of what its memory held before, nothing is in them. Of an
 * addressable configuration; `bytes` to save into are aligned as the stream's memory is. */
size_t wdt_stream_saved_bytes(const wdt_model *model, const wdt_cache_config *config);
void wdt_stream_save(const wdt_stream *stream, const wdt_cache_config *config, void *bytes);

/* wdt_stream_saved_bytes() bytes, which may be anyone's: whatever they are, later calls end, read nothing outside of
 * the stream, and answer with finite numbers or refuse. WDT_E_CONFIG, WDT_E_NON_FINITE: they are no such state, and the
 * stream has to be laid out again. */
wdt_status wdt_stream_load(wdt_stream *stream, const wdt_cache_config *config, const void *bytes);

#ifdef __cplusplus
}
#endif
#endif
