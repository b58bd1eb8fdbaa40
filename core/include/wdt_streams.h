/* Many tracks of one model, a frame of each in one call: a group of tracks goes through each stage of the model together,
 * so that weights are read once for all of them. Every track's answers are those of wdt_stream_push(), bit for bit. */
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

#ifdef __cplusplus
}
#endif
#endif
