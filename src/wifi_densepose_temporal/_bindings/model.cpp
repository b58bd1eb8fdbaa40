// A loaded model, and a stream of frames through it.
#include "model.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include "cache.h"
#include "floats.h"

namespace {

// The model of a blob that parse_blob() accepted, or a status and a reason.
nb::tuple load(Bytes bytes) {
    wdt_rvne blob;
    wdt_status status = wdt_rvne_parse(bytes.data(), bytes.size(), &blob);
    if (status != WDT_OK) {
        return nb::make_tuple(status, "", nb::none());
    }
    auto *loaded = new Model{bytes};
    nb::object owner = nb::cast(loaded, nb::rv_policy::take_ownership);
    const char *why = "";
    status = wdt_model_init(&loaded->model, &blob, &why);
    return nb::make_tuple(status, why, status == WDT_OK ? owner : nb::none());
}

struct Stream {
    Busy busy;
    wdt_stream stream{};
    Memory memory;

    Stream(const Model &model, const wdt_cache_config &config)
        : memory(Memory::zeroed(wdt_stream_bytes(&model.model, &config))) {
        if (wdt_stream_init(&stream, &model.model, &config, memory.data.get()) != WDT_OK) {
            throw std::invalid_argument("capacity is below 1");
        }
    }

    // frame [F] or [1, F] -> (logits [C], embedding [E], index of the first largest logit); or None as floats.h says;
    // or the core's refusal.
    nb::object push(nb::handle frame) {
        const wdt_model &model = *stream.model;
        const Floats row(frame);
        if (!(row.is({model.features}) || row.is({1, model.features})) || !row.finite()) {
            return nb::none();
        }
        nb::object logits = empty_floats({model.classes}), embedding = empty_floats({model.embedding_dim});
        const Floats scores(logits), vector(embedding);
        Claim claim(busy);
        wdt_status status;
        {
            nb::gil_scoped_release release;
            status = wdt_stream_push(&stream, row.data(), scores.data(), vector.data());
        }
        if (status != WDT_OK) {
            return nb::cast(status);
        }
        const float *const first = scores.data();
        return nb::make_tuple(logits, embedding, std::max_element(first, first + model.classes) - first);
    }

    // frames [N, F] -> logits [N, C], embedding [N, E]. Stops at the first frame that is refused; the number of
    // frames taken says which.
    std::tuple<wdt_status, ptrdiff_t> run(In<2> frames, Out<2> logits, Out<2> embedding) {
        Claim claim(busy);
        nb::gil_scoped_release release;
        const wdt_model &model = *stream.model;
        const auto count = static_cast<ptrdiff_t>(frames.shape(0));
        wdt_status status = WDT_OK;
        ptrdiff_t n = 0;
        for (; n < count; n++) {
            status = wdt_stream_push(&stream, frames.data() + n * model.features, logits.data() + n * model.classes,
                                     embedding.data() + n * model.embedding_dim);
            if (status != WDT_OK) {
                break;
            }
        }
        return {status, n};
    }
};

template <auto Member> auto field() {
    return [](const Model &m) { return m.model.*Member; };
}

} // namespace

void bind_model(nb::module_ &m) {
    m.def("load_model", &load);
    nb::class_<Model>(m, "Model")
        .def_prop_ro("head", field<&wdt_model::head>())
        .def_prop_ro("features", field<&wdt_model::features>())
        .def_prop_ro("pooled_dim", field<&wdt_model::pooled_dim>())
        .def_prop_ro("embedding_dim", field<&wdt_model::embedding_dim>())
        .def_prop_ro("norm", field<&wdt_model::norm>())
        .def_prop_ro("has_chain", [](const Model &l) { return l.model.has_chain != 0; })
        .def_prop_ro("pooling", [](const Model &l) {
            return nb::make_tuple(l.model.pooling.kind, l.model.pooling.frames);
        })
        .def_prop_ro("chain", [](const Model &l) { return chain_words(l.model.chain); });

    m.attr("MAX_WEIGHT") = WDT_MAX_WEIGHT;

    nb::class_<Stream>(m, "Stream")
        .def("__init__",
             [](Stream *made, const Model &model, ptrdiff_t capacity, bool half, const std::string &policy,
                ptrdiff_t landmark_blocks) {
                 new (made) Stream(model, cache_config(capacity, half, policy, landmark_blocks));
             }, nb::keep_alive<1, 2>())
        .def("push", &Stream::push, any_object())
        .def("run", &Stream::run)
        .def("reset", [](Stream &s) { Claim claim(s.busy); wdt_stream_reset(&s.stream); })
        .def_prop_ro("length", [](const Stream &s) { return s.stream.length; })
        .def_prop_ro("capacity", [](const Stream &s) { return s.stream.capacity; })
        .def_prop_ro("nbytes", [](const Stream &s) { return s.memory.bytes; });
}
