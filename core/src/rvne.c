/* Parsing of the .rvne blob, one section a function. Integers are read byte by byte, so neither the alignment of the
 * buffer nor the host's byte order matters here. */
#include "wdt_rvne.h"

#include <string.h>

static uint16_t read_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)read_u16(at) | (uint32_t)read_u16(at + 2) << 16;
}

static void write_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value & 0xFFu);
    at[1] = (uint8_t)(value >> 8);
}

static void write_u32(uint8_t *at, uint32_t value)
{
    write_u16(at, (uint16_t)(value & 0xFFFFu));
    write_u16(at + 2, (uint16_t)(value >> 16));
}

uint32_t wdt_crc32(uint32_t crc, const uint8_t *bytes, size_t length)
{
    /* Four bits at a time: a table of 64 bytes instead of 1 KB, which a microcontroller has a use for. */
    static const uint32_t nibble[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    crc = ~crc;
    for (size_t j = 0; j < length; j++) {
        crc ^= bytes[j];
        crc = crc >> 4 ^ nibble[crc & 15u];
        crc = crc >> 4 ^ nibble[crc & 15u];
    }
    return ~crc;
}

/* Zeros behind a record's payload, up to a multiple of 4. */
static uint32_t padding(uint32_t length)
{
    return (4u - length % 4u) % 4u;
}

static void read_header(const uint8_t *bytes, wdt_rvne_header *header)
{
    header->flags = bytes[0x06];
    header->input_dim = read_u16(bytes + 0x08);
    header->n_q_heads = read_u16(bytes + 0x0A);
    header->n_kv_heads = read_u16(bytes + 0x0C);
    header->head_dim = read_u16(bytes + 0x0E);
    header->n_layers = read_u16(bytes + 0x10);
    header->n_classes = read_u16(bytes + 0x12);
    header->weights_len = read_u32(bytes + 0x14);
}

void wdt_rvne_write_header(const wdt_rvne_header *header, uint8_t bytes[WDT_RVNE_HEADER_BYTES])
{
    write_u32(bytes, WDT_RVNE_MAGIC);
    write_u16(bytes + 0x04, WDT_RVNE_VERSION);
    bytes[0x06] = header->flags;
    bytes[0x07] = 0;
    write_u16(bytes + 0x08, header->input_dim);
    write_u16(bytes + 0x0A, header->n_q_heads);
    write_u16(bytes + 0x0C, header->n_kv_heads);
    write_u16(bytes + 0x0E, header->head_dim);
    write_u16(bytes + 0x10, header->n_layers);
    write_u16(bytes + 0x12, header->n_classes);
    write_u32(bytes + 0x14, header->weights_len);
}

uint8_t wdt_rvne_dtype(const wdt_rvne_header *header)
{
    return header->flags & WDT_FLAG_INT8 ? WDT_INT8 : header->flags & WDT_FLAG_FLOAT16 ? WDT_FLOAT16 : WDT_FLOAT32;
}

/* No unknown flag, and one dtype. */
static int flags_are_known(uint8_t flags)
{
    const unsigned both = WDT_FLAG_FLOAT16 | WDT_FLAG_INT8;
    return !(flags & ~(both | WDT_FLAG_RECORDS)) && (flags & both) != both;
}

/* Finds the sections of a buffer of `length` bytes, which must add up to exactly that many. 64-bit sums of 32-bit
 * fields cannot overflow. */
static wdt_status find_sections(const uint8_t *bytes, uint64_t length, wdt_rvne *blob)
{
    const wdt_rvne_header *const header = &blob->header;
    const uint64_t end = WDT_RVNE_HEADER_BYTES + (uint64_t)header->weights_len;
    blob->weights = bytes + WDT_RVNE_HEADER_BYTES;
    blob->records = NULL;
    blob->records_len = 0;
    if (header->weights_len % (wdt_rvne_dtype(header) == WDT_FLOAT16 ? 2u : 4u) != 0) {
        return WDT_E_LENGTH;
    }
    if (!(header->flags & WDT_FLAG_RECORDS)) {
        return length == end + WDT_RVNE_CRC_BYTES ? WDT_OK : WDT_E_LENGTH;
    }
    const uint64_t start = end + 4u; /* of the records, after their length */
    if (length < start + WDT_RVNE_CRC_BYTES) {
        return WDT_E_LENGTH;
    }
    blob->records = bytes + start;
    blob->records_len = read_u32(blob->records - 4);
    return length == start + blob->records_len + WDT_RVNE_CRC_BYTES ? WDT_OK : WDT_E_LENGTH;
}

static wdt_status check_dims(const wdt_rvne_header *header)
{
    if (header->input_dim == 0 || header->n_q_heads == 0 || header->n_kv_heads == 0 || header->head_dim == 0) {
        return WDT_E_DIMS;
    }
    if (header->n_q_heads % header->n_kv_heads != 0) {
        return WDT_E_HEAD_RATIO;
    }
    return header->n_layers < 1 || header->n_classes < 2 ? WDT_E_DEGENERATE : WDT_OK;
}

static int all_zero(const uint8_t *at, uint32_t count)
{
    for (uint32_t j = 0; j < count; j++) {
        if (at[j] != 0) {
            return 0;
        }
    }
    return 1;
}

int wdt_record_next(const wdt_rvne *blob, uint32_t *offset, wdt_record *record)
{
    const uint32_t left = blob->records_len - *offset;
    if (left < WDT_RECORD_HEADER_BYTES) {
        return 0;
    }
    const uint8_t *const at = blob->records + *offset;
    const uint32_t length = read_u32(at + 4), room = left - WDT_RECORD_HEADER_BYTES;
    if (length > room || padding(length) > room - length) {
        return 0;
    }
    record->tag = read_u16(at);
    record->flags = read_u16(at + 2);
    record->length = length;
    record->payload = at + WDT_RECORD_HEADER_BYTES;
    *offset += WDT_RECORD_HEADER_BYTES + length + padding(length);
    return 1;
}

int wdt_record_find(const wdt_rvne *blob, uint16_t tag, wdt_record *record)
{
    uint32_t offset = 0;
    while (wdt_record_next(blob, &offset, record)) {
        if (record->tag == tag) {
            return 1;
        }
    }
    return 0;
}

/* 1 and whether it has to be critical, for a tag that this version knows; else 0. */
static int find_known(uint16_t tag, int *critical)
{
    switch (tag) {
#define WDT_RECORD_CASE(name, number, is_critical) \
    case number:                                   \
        *critical = is_critical;                   \
        return 1;
        WDT_RECORDS(WDT_RECORD_CASE)
    default:
        return 0;
    }
}

/* The tags seen, as a mask. */
#define WDT_RECORD_FITS(name, number, is_critical) _Static_assert(number < 32, "the tag of " #name " fits the mask");
WDT_RECORDS(WDT_RECORD_FITS)

static wdt_status check_records(const wdt_rvne *blob)
{
    uint32_t offset = 0, seen = 0;
    wdt_record record;
    while (wdt_record_next(blob, &offset, &record)) {
        int critical = 0;
        const int known = find_known(record.tag, &critical), marked = record.flags & WDT_RECORD_CRITICAL;
        if (record.flags & ~WDT_RECORD_CRITICAL || (!known && marked) || (known && critical != marked) ||
            !all_zero(record.payload + record.length, padding(record.length))) {
            return WDT_E_RECORD;
        }
        if (known && seen & 1u << record.tag) {
            return WDT_E_RECORD; /* twice: which one would hold? */
        }
        seen |= known ? 1u << record.tag : 0u;
    }
    return offset == blob->records_len ? WDT_OK : WDT_E_RECORD;
}

wdt_status wdt_rvne_parse(const uint8_t *bytes, size_t length, wdt_rvne *blob)
{
    wdt_rvne parsed;
    if (length < WDT_RVNE_HEADER_BYTES + WDT_RVNE_CRC_BYTES) {
        return WDT_E_TOO_SHORT;
    }
    if (read_u32(bytes) != WDT_RVNE_MAGIC) {
        return WDT_E_MAGIC;
    }
    if (read_u16(bytes + 0x04) != WDT_RVNE_VERSION) {
        return WDT_E_VERSION;
    }
    read_header(bytes, &parsed.header);
    if (!flags_are_known(parsed.header.flags) || bytes[0x07] != 0) {
        return WDT_E_FLAGS;
    }
    wdt_status status = find_sections(bytes, length, &parsed);
    if (status != WDT_OK) {
        return status;
    }
    parsed.crc = read_u32(bytes + length - WDT_RVNE_CRC_BYTES);
    if (wdt_crc32(0, bytes, length - WDT_RVNE_CRC_BYTES) != parsed.crc) {
        return WDT_E_CRC;
    }
    status = check_dims(&parsed.header);
    if (status == WDT_OK) {
        status = check_records(&parsed);
    }
    if (status == WDT_OK) {
        *blob = parsed;
    }
    return status;
}
