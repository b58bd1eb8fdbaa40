/* The packets of a node: reading them from hostile bytes, and writing them. The byte tables with reasons are in
 * docs/wire.md. Nothing is allocated, and neither the alignment of the bytes nor the host's byte order matters. */
#ifndef WDT_WIRE_H
#define WDT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WDT_WIRE_MAGIC 0xC5110000u /* plus the kind */
#define WDT_WIRE_MAGIC_BYTES 4u
#define WDT_WIRE_CRC_BYTES 4u /* at the end of a packet that has one */
#define WDT_WIRE_DEFAULT_PORT 5005u

/* X(name, number): the kinds. Those that this header has no struct of are known, and not read. */
#define WDT_WIRE_KINDS(X) \
    X(raw_csi, 1)         \
    X(vitals, 2)          \
    X(feature_vector, 3)  \
    X(fused_vitals, 4)    \
    X(compressed_csi, 5)  \
    X(feature_state, 6)   \
    X(classification, 7)

#define WDT_WIRE_KIND(name, number) WDT_WIRE_##name = number,
typedef enum wdt_wire_kind { WDT_WIRE_unknown = 0, WDT_WIRE_KINDS(WDT_WIRE_KIND) } wdt_wire_kind;
#undef WDT_WIRE_KIND

/* What the first four bytes say; unknown for fewer bytes, and for any other magic. */
wdt_wire_kind wdt_wire_kind_of(const uint8_t *bytes, size_t length);

/* ----------------------------------------------------------------------------------------------------------- fields
 * X(name, type, offset): where each field lies. Types are u8, u16, u32, u64, i8 and f32, little-endian. */
#define WDT_WIRE_RAW_CSI_HEADER_BYTES 20u /* the last two are reserved, and not looked at: nodes put flags there */
#define WDT_WIRE_MAX_SUBCARRIERS 512u
#define WDT_WIRE_RAW_CSI_FIELDS(X) \
    X(node_id, u8, 4)              \
    X(antennas, u8, 5)             \
    X(subcarriers, u16, 6)         \
    X(frequency_mhz, u32, 8)       \
    X(seq, u32, 12)                \
    X(rssi_dbm, i8, 16)            \
    X(noise_floor_dbm, i8, 17)

#define WDT_WIRE_FEATURE_STATE_BYTES 60u
#define WDT_WIRE_FEATURE_STATE_RESERVED 54u /* 2 bytes */
#define WDT_WIRE_FEATURE_STATE_FIELDS(X) \
    X(node_id, u8, 4)                    \
    X(mode, u8, 5)                       \
    X(seq, u16, 6)                       \
    X(ts_us, u64, 8)                     \
    X(motion_score, f32, 16)             \
    X(presence_score, f32, 20)           \
    X(respiration_bpm, f32, 24)          \
    X(respiration_conf, f32, 28)         \
    X(heartbeat_bpm, f32, 32)            \
    X(heartbeat_conf, f32, 36)           \
    X(anomaly_score, f32, 40)            \
    X(env_shift_score, f32, 44)          \
    X(node_coherence, f32, 48)           \
    X(quality_flags, u16, 52)

#define WDT_WIRE_CLASSIFICATION_BYTES 40u
#define WDT_WIRE_CLASSIFICATION_VERSION 1u
#define WDT_WIRE_CLASSIFICATION_VERSION_AT 4u    /* u16 */
#define WDT_WIRE_CLASSIFICATION_RESERVED 9u      /* 3 bytes */
#define WDT_WIRE_CLASSIFICATION_RESERVED_TOO 25u /* 3 bytes */
#define WDT_WIRE_CLASSIFICATION_FIELDS(X) \
    X(n_classes, u16, 6)                  \
    X(node_id, u8, 8)                     \
    X(ts_us, u64, 12)                     \
    X(seq, u32, 20)                       \
    X(argmax, u8, 24)                     \
    X(top_logit, f32, 28)                 \
    X(top1_minus_top2, f32, 32)

typedef uint8_t wdt_wire_u8;
typedef uint16_t wdt_wire_u16;
typedef uint32_t wdt_wire_u32;
typedef uint64_t wdt_wire_u64;
typedef int8_t wdt_wire_i8;
typedef float wdt_wire_f32;
#define WDT_WIRE_FIELD(name, type, offset) wdt_wire_##type name;

/* 0xC5110001. frequency_mhz: of the channel; 0 if not stated. */
typedef struct wdt_wire_raw_csi {
    WDT_WIRE_RAW_CSI_FIELDS(WDT_WIRE_FIELD)
    const int8_t *iq; /* [antennas, subcarriers, 2]; of a parsed packet a view into the caller's bytes */
} wdt_wire_raw_csi;

/* 0xC5110006. */
typedef struct wdt_wire_feature_state {
    WDT_WIRE_FEATURE_STATE_FIELDS(WDT_WIRE_FIELD)
} wdt_wire_feature_state;

/* 0xC5110007. */
typedef struct wdt_wire_classification {
    WDT_WIRE_CLASSIFICATION_FIELDS(WDT_WIRE_FIELD)
} wdt_wire_classification;
#undef WDT_WIRE_FIELD

/* ---------------------------------------------------------------------------------------------------------- reading
 * Why a packet is refused, in the order of the checks. A packet has those checks whose fields it has. */
typedef enum wdt_wire_status {
    WDT_WIRE_OK = 0,           /* what wdt_wire_clash holds:  found                    expected */
    WDT_WIRE_E_TOO_SHORT,      /*                             bytes                    at least as many */
    WDT_WIRE_E_MAGIC,          /*                             magic                    magic */
    WDT_WIRE_E_VERSION,        /*                             version                  version */
    WDT_WIRE_E_ANTENNAS,       /* none:                       antennas                 at least 1 */
    WDT_WIRE_E_SUBCARRIERS,    /* none, or too many:          subcarriers              at most that many */
    WDT_WIRE_E_LENGTH,         /*                             bytes                    exactly as many */
    WDT_WIRE_E_CRC,            /*                             checksum in the packet   of its bytes */
    WDT_WIRE_E_RESERVED,       /* a byte that is not 0:       its offset               0 */
    WDT_WIRE_E_NON_FINITE,     /* NaN or infinity:            offset of the number     0 */
    WDT_WIRE_E_CLASSES,        /* fewer than two:             n_classes                at least 2 */
    WDT_WIRE_E_ARGMAX,         /* no class of the model's:    argmax                   less than n_classes */
    WDT_WIRE_E_MARGIN          /* top1_minus_top2 below 0:    0                        0 */
} wdt_wire_status;

typedef struct wdt_wire_clash {
    uint32_t found, expected; /* as the list above says; a length above 2^32 - 1 is shown as that */
} wdt_wire_clash;

/* Each reads `length` bytes as one packet, no byte more or less. On a refusal the result is untouched, and *clash says
 * what was found; it may be NULL. raw_csi: the frequency may come in Hz or in MHz, and is rounded to MHz. */
wdt_wire_status wdt_wire_parse_raw_csi(const uint8_t *bytes, size_t length, wdt_wire_raw_csi *csi,
                                       wdt_wire_clash *clash);
wdt_wire_status wdt_wire_parse_feature_state(const uint8_t *bytes, size_t length, wdt_wire_feature_state *state,
                                             wdt_wire_clash *clash);
wdt_wire_status wdt_wire_parse_classification(const uint8_t *bytes, size_t length, wdt_wire_classification *result,
                                              wdt_wire_clash *clash);

/* What logits [classes], finite, decide: n_classes, argmax (the first of equals), top_logit and top1_minus_top2; the
 * rest is 0. 2 <= classes <= 256. */
wdt_wire_classification wdt_wire_decide(const float *logits, uint32_t classes);

/* ---------------------------------------------------------------------------------------------------------- writing
 * Each writes every byte of the packet, and checks no value: what would be refused is written as it is. */

/* Bytes of a raw CSI packet; 0 for a shape that no packet has. */
size_t wdt_wire_raw_csi_bytes(uint32_t antennas, uint32_t subcarriers);

/* Into wdt_wire_raw_csi_bytes(csi->antennas, csi->subcarriers) bytes, which must not overlap csi->iq. Such a shape is
 * the caller's duty. */
void wdt_wire_write_raw_csi(const wdt_wire_raw_csi *csi, uint8_t *bytes);
void wdt_wire_write_feature_state(const wdt_wire_feature_state *state, uint8_t bytes[WDT_WIRE_FEATURE_STATE_BYTES]);
void wdt_wire_write_classification(const wdt_wire_classification *result,
                                   uint8_t bytes[WDT_WIRE_CLASSIFICATION_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
