/* What a call into the core can answer. The core never exits, aborts, allocates or prints: every refusal is one
 * of these, and a call that refuses has changed nothing that its caller can observe. */
#ifndef WDT_STATUS_H
#define WDT_STATUS_H

typedef enum wdt_status {
    WDT_OK = 0,
    WDT_E_CONFIG,     /* parameters that wdt_head_rule() or a size function refuses */
    WDT_E_FULL,       /* the cache holds `capacity` tokens */
    WDT_E_HALF_RANGE, /* a value beyond float16's +-65504, for a float16 cache */
    WDT_E_NON_FINITE, /* an activation of the model is NaN, infinite or beyond WDT_MAX_VALUE */

    /* wdt_rvne.h, in the order in which a blob is checked */
    WDT_E_TOO_SHORT,
    WDT_E_MAGIC,
    WDT_E_VERSION,
    WDT_E_FLAGS,
    WDT_E_LENGTH,
    WDT_E_CRC,
    WDT_E_DIMS,
    WDT_E_HEAD_RATIO,
    WDT_E_DEGENERATE,
    WDT_E_RECORD, /* malformed records, or a critical one that is not known */

    /* wdt_model.h */
    WDT_E_MODEL,    /* the payload or the records are not those of a model */
    WDT_E_ALIGNMENT /* the blob does not start at a multiple of 4 bytes */
} wdt_status;

#endif
