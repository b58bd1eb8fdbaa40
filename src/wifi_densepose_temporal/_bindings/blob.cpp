// The .rvne container: parsing, header writing, checksum, and the names and orders that core/ defines.
#include "bindings.h"

#include "wdt_chain.h"
#include "wdt_rvne.h"

namespace {

nb::dict header_fields(const wdt_rvne_header &header) {
    nb::dict fields;
    fields["input_dim"] = header.input_dim;
    fields["n_q_heads"] = header.n_q_heads;
    fields["n_kv_heads"] = header.n_kv_heads;
    fields["head_dim"] = header.head_dim;
    fields["n_layers"] = header.n_layers;
    fields["n_classes"] = header.n_classes;
    fields["dtype"] = wdt_rvne_dtype(&header);
    return fields;
}

// (status, None) or (OK, {header, weights_offset, weights_len, records: [(tag, flags, offset, length)], crc})
nb::tuple parse(Bytes bytes) {
    wdt_rvne blob;
    wdt_status status;
    {
        nb::gil_scoped_release release;
        status = wdt_rvne_parse(bytes.data(), bytes.size(), &blob);
    }
    if (status != WDT_OK) {
        return nb::make_tuple(status, nb::none());
    }
    nb::list records;
    wdt_record record;
    for (uint32_t offset = 0; wdt_record_next(&blob, &offset, &record);) {
        records.append(nb::make_tuple(record.tag, record.flags, record.payload - bytes.data(), record.length));
    }
    nb::dict parsed;
    parsed["header"] = header_fields(blob.header);
    parsed["weights_offset"] = blob.weights - bytes.data();
    parsed["weights_len"] = blob.header.weights_len;
    parsed["records"] = records;
    parsed["crc"] = blob.crc;
    return nb::make_tuple(status, parsed);
}

nb::bytes write_header(uint16_t input_dim, uint16_t n_q_heads, uint16_t n_kv_heads, uint16_t head_dim,
                       uint16_t n_layers, uint16_t n_classes, uint32_t weights_len, uint8_t dtype, bool has_records) {
    wdt_rvne_header header{};
    const unsigned of_dtype = dtype == WDT_INT8 ? WDT_FLAG_INT8 : dtype == WDT_FLOAT16 ? WDT_FLAG_FLOAT16 : 0u;
    header.flags = static_cast<uint8_t>(of_dtype | (has_records ? WDT_FLAG_RECORDS : 0u));
    header.input_dim = input_dim;
    header.n_q_heads = n_q_heads;
    header.n_kv_heads = n_kv_heads;
    header.head_dim = head_dim;
    header.n_layers = n_layers;
    header.n_classes = n_classes;
    header.weights_len = weights_len;
    uint8_t bytes[WDT_RVNE_HEADER_BYTES];
    wdt_rvne_write_header(&header, bytes);
    return nb::bytes(bytes, sizeof bytes);
}

} // namespace

void bind_blob(nb::module_ &m) {
    m.def("parse_blob", &parse);
    m.def("write_header", &write_header, nb::arg("input_dim"), nb::arg("n_q_heads"), nb::arg("n_kv_heads"),
          nb::arg("head_dim"), nb::arg("n_layers"), nb::arg("n_classes"), nb::arg("weights_len"), nb::arg("dtype"),
          nb::arg("has_records"));
    m.def("crc32", [](Bytes bytes) { return wdt_crc32(0, bytes.data(), bytes.size()); });

    nb::dict records; // name: (tag, critical)
#define WDT_RECORD_ENTRY(name, tag, critical) records[#name] = nb::make_tuple(tag, critical != 0);
    WDT_RECORDS(WDT_RECORD_ENTRY)
    m.attr("RECORDS") = records;

    nb::dict words; // name of a record: the words that its payload opens with, in order
#define WDT_WORD_NAME(name) fields.append(#name);
#define WDT_WORD_NAMES(record, FIELDS) \
    {                                  \
        nb::list fields;               \
        FIELDS(WDT_WORD_NAME)          \
        words[record] = fields;        \
    }
    WDT_WORD_NAMES("pattern", WDT_PATTERN_FIELDS)
    WDT_WORD_NAMES("pooling", WDT_POOLING_FIELDS)
    WDT_WORD_NAMES("embedding_projection", WDT_EMBEDDING_FIELDS)
    WDT_WORD_NAMES("input_projection", WDT_INPUT_FIELDS)
    WDT_WORD_NAMES("feed_forward", WDT_FEED_FORWARD_FIELDS)
    WDT_WORD_NAMES("class_statistics", WDT_STATISTICS_FIELDS)
    WDT_WORD_NAMES("feature_chain", WDT_CHAIN_FIELDS)
    m.attr("RECORD_WORDS") = words;

    m.attr("RVNE_VERSION") = WDT_RVNE_VERSION;
    m.attr("RECORD_CRITICAL") = WDT_RECORD_CRITICAL;
    m.attr("BLOB_DTYPES") = nb::make_tuple("float32", "float16", "int8"); // as WDT_FLOAT32, ... number them
    m.attr("NORMS") = nb::make_tuple("none", "rms");
    m.attr("POOLINGS") = nb::make_tuple("mean", "last", "last_n", "mean_spread");
    m.attr("ACTIVATIONS") = nb::make_tuple("relu", "silu");
}
