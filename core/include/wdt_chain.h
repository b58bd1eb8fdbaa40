/* The feature chain: from the CSI packets of one link to frames at a fixed rate, one packet at a time.
 *
 * What this is: gain normalisation, resampling to fixed bins of time, and the parts that a frame is made of: levels,
 * motion, deviations, phase differences. Formulas and reasons: docs/features.md. The same code runs on the
 * microcontroller and, through Python, on recordings.
 * What it is not: it parses no packet format, owns no memory, keeps no globals and never calls back.
 *
 * Axis letters:  A  antennas (receive paths)   K  subcarrier columns   B  bands of a part   F  features of a frame.
 * Arrays are float32 or integer, C order, without padding. Times are int64 microseconds on any clock of the caller's.
 *
 *     wdt_chain_init(memory, bytes, &params, A, K, ofdm_index, &chain);
 *     for every packet:  wdt_chain_push(chain, t_us, amplitude);
 *                        while (wdt_chain_next(chain, frame, &time_us, &held) == WDT_CHAIN_FRAME) use(frame);
 *     at the end:        wdt_chain_flush(chain);  and the same while loop
 */
#ifndef WDT_CHAIN_H
#define WDT_CHAIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------------------------------------------- parameters
 * A frame's parts. Version 1 of the chain has two, level and motion of `bands` bands; version 2 lists its own. A part
 * begins with a value for each band in each bin:
 *   LEVEL       mean |X_n|                                                                              B features
 *   MOTION      mean |X_n - X_(n-lag)|                                                                  B
 *   QUADRATURE  imaginary part of C_(b+lag) conj(C_b) / g^2, C_b the complex mean of a band: the phase between bands,
 *               which a packet's random rotation leaves as it is. Needs I/Q                              B - lag
 * What is then made of it, in this order; a 0 leaves a step out:
 *   time_us         its exponential average with this time constant
 *   log_floor_ppm   its logarithm, log(v + log_floor_ppm / 10^6)
 *   slow_us         minus its own exponential average with this time constant, or, with WDT_CHAIN_SO_FAR, its mean over
 *                   the segment so far: what a band does against its own past, so that the room's constant part is gone
 *   size_us         divided by size + size_floor_ppm / 10^6, size being the exponential average of the root mean square
 *                   over the part's features; the logarithm of that divisor follows as one more feature */
enum { WDT_PART_LEVEL = 0, WDT_PART_MOTION = 1, WDT_PART_QUADRATURE = 2, WDT_PART_KINDS };

#define WDT_CHAIN_PART_FIELDS(X) \
    X(kind) X(bands) X(lag) X(time_us) X(log_floor_ppm) X(slow_us) X(size_us) X(size_floor_ppm)
#define WDT_CHAIN_MEMBER(name) uint32_t name;
typedef struct wdt_chain_part { WDT_CHAIN_PART_FIELDS(WDT_CHAIN_MEMBER) } wdt_chain_part;
#undef WDT_CHAIN_MEMBER

#define WDT_CHAIN_MAX_PARTS 12u
#define WDT_CHAIN_MAX_LAG 64u          /* bins (motion) or bands (quadrature) */
#define WDT_CHAIN_MAX_FRAME_BINS 1000u
#define WDT_CHAIN_MAX_FLOOR 1000000u   /* of log_floor_ppm and size_floor_ppm */
#define WDT_CHAIN_SO_FAR UINT32_MAX    /* as slow_us */

/* The members of wdt_chain_params, in the order in which a blob's record holds them: u32 little-endian each. In version
 * 2, the record goes on with frame_bins, hold, n_parts and the parts. */
#define WDT_CHAIN_FIELDS(X) \
    X(version)              \
    X(bands)                \
    X(period_us)            \
    X(motion_time_us)       \
    X(max_gap_us)

typedef struct wdt_chain_params {
#define WDT_CHAIN_MEMBER(name) uint32_t name;
    WDT_CHAIN_FIELDS(WDT_CHAIN_MEMBER)
#undef WDT_CHAIN_MEMBER
    /* Version 2, which leaves bands and motion_time_us at 0; in version 1 these are not looked at. */
    uint32_t frame_bins; /* bins from one frame to the next; a frame holds the parts as of its last one */
    uint32_t hold;       /* 1: an empty bin holds the values of the one before; 0: it is passed over, as if time stood
                          * still, so that a mean over frames counts what was measured and nothing else */
    uint32_t n_parts;    /* 1..WDT_CHAIN_MAX_PARTS */
    wdt_chain_part part[WDT_CHAIN_MAX_PARTS];
} wdt_chain_params;

/* The defaults, defined here and nowhere else. */
#define WDT_CHAIN_DEFAULT_VERSION 1u            /* of the formulas; a change of what a frame means counts it up */
#define WDT_CHAIN_DEFAULT_BANDS 8u              /* B */
#define WDT_CHAIN_DEFAULT_PERIOD_US 20000u      /* of a bin: 50 Hz */
#define WDT_CHAIN_DEFAULT_MOTION_TIME_US 250000u /* time constant of the motion average */
#define WDT_CHAIN_DEFAULT_MAX_GAP_US 1000000u   /* a longer silence ends the segment */

/* The limits that wdt_chain_params_rule() and the size function hold the caller to. */
#define WDT_CHAIN_MIN_PERIOD_US 100u      /* 10 kHz */
#define WDT_CHAIN_MAX_PERIOD_US 10000000u /* 0.1 Hz */
#define WDT_CHAIN_MAX_PERIODS 10000u      /* of motion_time_us and max_gap_us: bounds the frames per packet */
#define WDT_CHAIN_MAX_BANDS 1024u
#define WDT_CHAIN_MAX_ANTENNAS 64u
#define WDT_CHAIN_MAX_SUBCARRIERS 4096u
#define WDT_CHAIN_MAX_TIME_US (INT64_C(1) << 61) /* |t_us| beyond this (73,000 years) is no time: packet skipped */
#define WDT_CHAIN_ALIGNMENT 8u                   /* of the caller's memory, bytes */
#define WDT_CHAIN_UNUSED INT16_MIN               /* as an OFDM index: this column holds nothing measured */

typedef enum wdt_chain_status {
    WDT_CHAIN_OK = 0,     /* done; of push: the packet is in the current bin */
    WDT_CHAIN_FRAME,      /* of next: a frame was written */
    WDT_CHAIN_NONE,       /* of next: no frame is due, nothing was written */
    WDT_CHAIN_SKIPPED,    /* of push: not a measurement (see push); counted */
    WDT_CHAIN_LATE,       /* of push: older than the newest packet; counted */
    /* Refusals: the call has changed nothing (of init: nothing but the memory that it was given). */
    WDT_CHAIN_E_UNDRAINED, /* push or flush while next() still has frames */
    WDT_CHAIN_E_PARAMS,    /* wdt_chain_params_rule() says why */
    WDT_CHAIN_E_PHASE,     /* an amplitude where a part needs I/Q */
    WDT_CHAIN_E_SHAPE,     /* antennas or subcarriers zero or above their maximum */
    WDT_CHAIN_E_BANDS,     /* fewer usable columns than bands */
    WDT_CHAIN_E_MEMORY     /* too few bytes, or memory not aligned to WDT_CHAIN_ALIGNMENT */
} wdt_chain_status;

wdt_chain_params wdt_chain_params_default(void);

/* NULL if the parameters are valid, else the rule that it breaks, as a sentence for a person. */
const char *wdt_chain_params_rule(const wdt_chain_params *params);

/* F: features of a frame, for valid parameters; and 1 if a part needs I/Q. */
uint32_t wdt_chain_features(const wdt_chain_params *params);
int wdt_chain_needs_phase(const wdt_chain_params *params);

/* ---------------------------------------------------------------------------------------------- subcarriers, bands
 * Which band each column belongs to. The usable columns, sorted by OFDM index, are cut into `bands` contiguous groups
 * whose sizes differ by at most one, the larger ones first.
 *
 *   ofdm_index  [count] subcarrier number relative to the carrier in steps of 312.5 kHz, in any order, or
 *               WDT_CHAIN_UNUSED; NULL if unknown: then every column is usable, in the order of the columns
 *   count       1..WDT_CHAIN_MAX_SUBCARRIERS
 *   bands       1..WDT_CHAIN_MAX_BANDS
 *   band        out [count]: 0..bands-1, or -1 where the column is left out; must not overlap ofdm_index
 *
 * The table is chosen by the largest |index|, and leaves out the carrier, the guard and the pilots:
 *   up to  32 (20 MHz)  usable 1..26  without 7, 21            both signs, 48 columns at most
 *   up to  64 (40 MHz)  usable 2..58  without 11, 25, 53      108
 *   up to 128 (80 MHz)  usable 2..122 without 11, 39, 75, 103 234
 *   wider               all but 0: the caller lists the subcarriers in use
 * 802.11n also fills +-27 and +-28 at 20 MHz, 802.11a/g does not, and a capture does not always say which it holds:
 * +-26 is what both fill, so that the bands do not depend on what sent the packet.
 * Returns OK, E_PARAMS (bands out of range), E_SHAPE or E_BANDS. */
wdt_chain_status wdt_chain_assign_bands(const int16_t *ofdm_index, uint32_t count, uint32_t bands, int16_t *band);

/* ------------------------------------------------------------------------------------------------------- the chain */
typedef struct wdt_chain wdt_chain; /* lives in memory of the caller's, who must not move it; one thread at a time */

/* Bytes of memory that a chain takes; 0 if the parameters or the shape is refused. At most a few MB. */
size_t wdt_chain_bytes(const wdt_chain_params *params, uint32_t antennas, uint32_t subcarriers);

/* Makes an empty chain in `memory`.
 *   memory      `bytes` >= wdt_chain_bytes(...), aligned to WDT_CHAIN_ALIGNMENT; the chain until the caller reuses it
 *   params      copied
 *   ofdm_index  [subcarriers] or NULL, as for wdt_chain_assign_bands; read only during the call
 *   chain       out: the chain, a pointer into `memory`
 * Returns OK, E_PARAMS, E_SHAPE, E_BANDS or E_MEMORY. */
wdt_chain_status wdt_chain_init(void *memory, size_t bytes, const wdt_chain_params *params, uint32_t antennas,
                                uint32_t subcarriers, const int16_t *ofdm_index, wdt_chain **chain);

/* Takes one packet.
 *   t_us       arrival, microseconds; at least that of the newest packet taken, else LATE
 *   amplitude  [A, K] linear, any unit and gain (each antenna is divided by its root mean square); read during the call
 * SKIPPED: |t_us| > WDT_CHAIN_MAX_TIME_US, or an amplitude of a usable column that is negative, NaN or infinite, or an
 * antenna whose root mean square over the usable columns is outside 1e-15..1e15 (an all-zero packet). The values of
 * columns that are left out are never looked at. LATE and SKIPPED packets change nothing but their counter.
 * E_UNDRAINED: call next() until NONE first. One packet makes at most 1 + max_gap_us / period_us frames due.
 * E_PHASE: a part of this chain needs I/Q. */
wdt_chain_status wdt_chain_push(wdt_chain *chain, int64_t t_us, const float *amplitude);

/* As wdt_chain_push, of I/Q: iq [A, K, 2], real then imaginary part, read during the call. The amplitude that goes in is
 * that of wdt_chain_amplitude_iq. */
wdt_chain_status wdt_chain_push_iq(wdt_chain *chain, int64_t t_us, const float *iq);

/* Hands out the oldest frame that is due: FRAME, or NONE.
 *   frame    out [F]: the parts, one after the other. Amplitudes are relative to the packet's root mean square; in version
 *            1, level of each band (about 1), then motion of each band (>= 0, the same unit per bin)
 *   time_us  out: the end of the frame's last bin; no packet at or after it has gone into the frame
 *   held     out: 1 if no packet fell into the frame's bins and it goes on from the last one's levels, else 0 */
wdt_chain_status wdt_chain_next(wdt_chain *chain, float *frame, int64_t *time_us, uint8_t *held);

/* Ends the segment: the bin that is open becomes due, and with it a frame that still waits for more bins. The next
 * packet starts a new segment. OK, E_UNDRAINED. */
wdt_chain_status wdt_chain_flush(wdt_chain *chain);

/* Packets that were SKIPPED and LATE since init. */
uint64_t wdt_chain_skipped(const wdt_chain *chain);
uint64_t wdt_chain_late(const wdt_chain *chain);

/* ------------------------------------------------------------------------------------------------------- amplitude
 * out[i] = sqrt(iq[2i]^2 + iq[2i+1]^2) for i < n. The order within a pair does not matter: ESP32 gives (imaginary,
 * real). iq [n, 2] and out [n] must not overlap. Float pairs beyond 1e19 become infinite, and the chain skips them. */
void wdt_chain_amplitude_iq8(const int8_t *iq, size_t n, float *out);
void wdt_chain_amplitude_iq(const float *iq, size_t n, float *out);

#ifdef __cplusplus
}
#endif

#endif
