/* The .rvne weight blob: header, records, checksum. Reads in place, copies nothing, trusts nothing.
 * The byte tables and the reasons are in docs/rvne-format.md.
 *
 *   0x00  u32  magic 0x52564E45            0x10  u16  n_layers
 *   0x04  u16  version                     0x12  u16  n_classes
 *   0x06  u8   flags                       0x14  u32  weights_len, bytes
 *   0x07  u8   reserved, 0                 0x18  weights_len bytes of weights
 *   0x08  u16  input_dim                         with WDT_FLAG_RECORDS: u32 records_len,
 *   0x0A  u16  n_q_heads                         records_len bytes of records
 *   0x0C  u16  n_kv_heads                  end-4 u32  CRC-32 of everything before it
 *   0x0E  u16  head_dim
 */
#ifndef WDT_RVNE_H
#define WDT_RVNE_H

#include <stddef.h>
#include <stdint.h>

#include "wdt_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WDT_RVNE_MAGIC 0x52564E45u
#define WDT_RVNE_VERSION 1u
#define WDT_RVNE_HEADER_BYTES 24u
#define WDT_RVNE_CRC_BYTES 4u
#define WDT_FLAG_FLOAT16 0x01u
#define WDT_FLAG_RECORDS 0x02u
#define WDT_FLAG_INT8 0x04u /* not together with WDT_FLAG_FLOAT16 */

/* Of a blob's weights, and of its records' tensors but for those that are always float32. An int8 tensor is its float32
 * scale, its numbers, and zeros up to a multiple of 4; a weight is scale * number. */
enum { WDT_FLOAT32 = 0, WDT_FLOAT16 = 1, WDT_INT8 = 2 };

typedef struct wdt_rvne_header {
    uint8_t flags;
    uint16_t input_dim, n_q_heads, n_kv_heads, head_dim, n_layers, n_classes;
    uint32_t weights_len; /* bytes */
} wdt_rvne_header;

/* A parsed blob: pointers into the caller's bytes, which have to outlive it. */
typedef struct wdt_rvne {
    wdt_rvne_header header;
    const uint8_t *weights; /* weights_len bytes, little-endian */
    const uint8_t *records; /* records_len bytes; NULL without records */
    uint32_t records_len;
    uint32_t crc;
} wdt_rvne;

/* Checks everything and fills `blob`; on a refusal `blob` is untouched. Order of the checks: too short, magic,
 * version, flags, length, CRC, dims, head ratio, degenerate shape, records. */
wdt_status wdt_rvne_parse(const uint8_t *bytes, size_t length, wdt_rvne *blob);

/* Writes the 24 bytes of a header; the caller adds weights, records and checksum. Checks nothing. */
void wdt_rvne_write_header(const wdt_rvne_header *header, uint8_t bytes[WDT_RVNE_HEADER_BYTES]);

/* WDT_FLOAT32, WDT_FLOAT16 or WDT_INT8, as the flags say. */
uint8_t wdt_rvne_dtype(const wdt_rvne_header *header);

/* CRC-32 of IEEE 802.3 (zlib's), continuing from `crc`; start with 0. */
uint32_t wdt_crc32(uint32_t crc, const uint8_t *bytes, size_t length);

/* ---------------------------------------------------------------------------------------------------- records
 * Each is tag u16, flags u16, length u32, `length` bytes of payload, zeros up to a multiple of 4. */
#define WDT_RECORD_HEADER_BYTES 8u
#define WDT_RECORD_CRITICAL 0x0001u

/* X(name, tag, critical): the records that this version knows. One that is critical here must say so in the blob. */
#define WDT_RECORDS(X)             \
    X(pattern, 1, 1)               \
    X(pooling, 2, 1)               \
    X(feature_scale, 3, 1)         \
    X(embedding_projection, 4, 1)  \
    X(input_projection, 5, 1)      \
    X(feed_forward, 6, 1)          \
    X(feature_chain, 7, 1)         \
    X(class_labels, 8, 0)          \
    X(provenance, 9, 0)            \
    X(classifier_bias, 10, 1)      \
    X(class_statistics, 11, 0)

#define WDT_RECORD_ENUM(name, tag, critical) WDT_RECORD_##name = tag,
enum { WDT_RECORDS(WDT_RECORD_ENUM) };
#undef WDT_RECORD_ENUM

/* The words (u32 each) that a record's payload opens with, in this order. Tensors follow, in the blob's dtype
 * except for feature_scale and class_statistics, which are always float32; each tensor is padded to a multiple of 4.
 * Records start right after the weights: behind an odd number of float16 weights they, and only they, lie at odd
 * multiples of 2, which suits float16 tensors; words and feature_scale are therefore read byte by byte. Every tensor of
 * an int8 blob lies at a multiple of 4, as its weights_len is one. */
#define WDT_PATTERN_FIELDS(X) \
    X(dense) X(window) X(block_size) X(causal) X(log_stride) X(landmarks) X(norm) X(n_global_tokens)
#define WDT_POOLING_FIELDS(X) X(kind) X(frames)
#define WDT_EMBEDDING_FIELDS(X) X(input) X(hidden) X(output)
#define WDT_INPUT_FIELDS(X) X(features)
#define WDT_FEED_FORWARD_FIELDS(X) X(hidden) X(activation)
#define WDT_STATISTICS_FIELDS(X) X(classes) X(pooled_dim) /* the core skips the record; training hosts adapt by it */

enum { WDT_NORM_NONE = 0, WDT_NORM_RMS = 1 };
enum { WDT_POOL_MEAN = 0, WDT_POOL_LAST = 1, WDT_POOL_LAST_N = 2, WDT_POOL_MEAN_SPREAD = 3 };
enum { WDT_ACT_RELU = 0, WDT_ACT_SILU = 1 };

#define WDT_WORD(name) uint32_t name;
typedef struct wdt_pattern_words { WDT_PATTERN_FIELDS(WDT_WORD) } wdt_pattern_words;
typedef struct wdt_pooling_words { WDT_POOLING_FIELDS(WDT_WORD) } wdt_pooling_words;
typedef struct wdt_embedding_words { WDT_EMBEDDING_FIELDS(WDT_WORD) } wdt_embedding_words;
typedef struct wdt_input_words { WDT_INPUT_FIELDS(WDT_WORD) } wdt_input_words;
typedef struct wdt_feed_forward_words { WDT_FEED_FORWARD_FIELDS(WDT_WORD) } wdt_feed_forward_words;

#undef WDT_WORD

typedef struct wdt_record {
    uint16_t tag, flags;
    uint32_t length; /* of the payload, without padding */
    const uint8_t *payload;
} wdt_record;

/* Steps through the records of a parsed blob: start with *offset = 0; 1 while there is one more, else 0. */
int wdt_record_next(const wdt_rvne *blob, uint32_t *offset, wdt_record *record);

/* 1 and the record if the blob has one of this tag, else 0. */
int wdt_record_find(const wdt_rvne *blob, uint16_t tag, wdt_record *record);

#ifdef __cplusplus
}
#endif
#endif
