// The node's C ABI on this machine: the component's own functions, with their error codes.
#include "floats.h"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/string.h>

#include "ruv_temporal.h"
#include "temporal_features.h"
#include "temporal_task.h"
#include "wdt_wire.h"

namespace {

struct Options {
    Bytes blob;
    uint32_t input_dim, window_len, n_classes;
    ruv_temporal_options_t options;

    Options(Bytes blob, uint32_t input_dim, uint32_t window_len, uint32_t n_classes, bool session, bool half)
        : blob(blob), input_dim(input_dim), window_len(window_len), n_classes(n_classes),
          options{session ? RUV_TEMPORAL_SESSION : RUV_TEMPORAL_WINDOW, half} {}
};

nb::tuple sizes(const Options &asked) {
    ruv_temporal_sizes_t bytes{};
    const esp_err_t error = ruv_temporal_size(asked.blob.data(), asked.blob.size(), asked.input_dim, asked.window_len,
                                              asked.n_classes, &asked.options, &bytes);
    nb::dict parts;
    parts["context"] = bytes.context;
    parts["window"] = bytes.window;
    parts["streams"] = bytes.streams;
    parts["logits"] = bytes.logits;
    parts["total"] = bytes.total;
    return nb::make_tuple(error, parts);
}

// Keeps the blob's bytes alive, which the context borrows.
struct Node {
    Busy busy;
    Options asked;
    ruv_temporal_ctx_t *context = nullptr;
    esp_err_t error;

    explicit Node(const Options &options)
        : asked(options), error(ruv_temporal_init_with(asked.blob.data(), asked.blob.size(), asked.input_dim,
                                                       asked.window_len, asked.n_classes, &asked.options, &context)) {}
    ~Node() { ruv_temporal_destroy(context); }
    Node(const Node &) = delete;
    Node &operator=(const Node &) = delete;

    esp_err_t push(In<1> frame) {
        if (frame.shape(0) != asked.input_dim) {
            return ESP_ERR_INVALID_ARG;
        }
        Claim claim(busy);
        nb::gil_scoped_release release;
        return ruv_temporal_push(context, frame.data());
    }

    esp_err_t classify(Out<1> logits) {
        Claim claim(busy);
        nb::gil_scoped_release release;
        return ruv_temporal_classify(context, logits.data(), static_cast<uint32_t>(logits.shape(0)));
    }

    // Of the feature chain, for buffers of so many int8 numbers; 0 where the chain is refused.
    size_t features_bytes(uint16_t values) const {
        const temporal_features_layout_t layout{values, TEMPORAL_FEATURES_UNKNOWN, 0};
        return temporal_features_bytes(ruv_temporal_model(context), &layout);
    }

    void reset() {
        Claim claim(busy);
        ruv_temporal_reset(context);
    }
};

} // namespace

void bind_node(nb::module_ &m) {
    nb::dict names;
#define WDT_NAME_OF(error) names[nb::int_(error)] = #error;
    WDT_NAME_OF(ESP_OK)
    WDT_NAME_OF(ESP_FAIL)
    WDT_NAME_OF(ESP_ERR_NO_MEM)
    WDT_NAME_OF(ESP_ERR_INVALID_ARG)
    WDT_NAME_OF(ESP_ERR_INVALID_STATE)
    WDT_NAME_OF(ESP_ERR_INVALID_SIZE)
    WDT_NAME_OF(ESP_ERR_NOT_SUPPORTED)
    WDT_NAME_OF(ESP_ERR_INVALID_CRC)
    WDT_NAME_OF(ESP_ERR_INVALID_VERSION)
#undef WDT_NAME_OF
    m.attr("ESP_ERRORS") = names;
    m.attr("NODE_QUEUE_FRAMES") = TEMPORAL_TASK_QUEUE_FRAMES;
    m.attr("NODE_STACK_BYTES") = TEMPORAL_TASK_STACK_BYTES;
    m.def("node_self_test", &ruv_temporal_kernel_self_test);
    // (argmax, top_logit, top1_minus_top2) of logits [C], 2 <= C <= 256; None for others.
    m.def("decide", [](In<1> logits) -> nb::object {
        if (logits.shape(0) < 2 || logits.shape(0) > 256) {
            return nb::none();
        }
        const wdt_wire_classification decided = wdt_wire_decide(logits.data(), static_cast<uint32_t>(logits.shape(0)));
        return nb::make_tuple(decided.argmax, decided.top_logit, decided.top1_minus_top2);
    });
    nb::class_<Options>(m, "NodeOptions")
        .def(nb::init<Bytes, uint32_t, uint32_t, uint32_t, bool, bool>())
        .def("sizes", &sizes);
    nb::class_<Node>(m, "Node")
        .def(nb::init<const Options &>())
        .def_prop_ro("error", [](const Node &n) { return n.error; })
        .def("push", &Node::push)
        .def("classify", &Node::classify)
        .def("features_bytes", &Node::features_bytes)
        .def("reset", &Node::reset);
}
