// The head and the cache: what step.cpp and window.cpp compute with.
#include "cache.h"

#include <algorithm>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace {

wdt_head make_head(bool dense, int32_t q_heads, int32_t kv_heads, int32_t head_dim, int32_t window, int32_t block_size,
                   bool causal, bool log_stride, bool landmarks, const std::vector<int32_t> &global_tokens) {
    wdt_head head{};
    head.q_heads = q_heads;
    head.kv_heads = kv_heads;
    head.head_dim = head_dim;
    head.window = window;
    head.block_size = block_size;
    head.n_global_tokens = static_cast<int32_t>(global_tokens.size());
    for (size_t g = 0; g < global_tokens.size() && g < WDT_MAX_GLOBAL_TOKENS; g++) {
        head.global_tokens[g] = global_tokens[g];
    }
    head.dense = dense;
    head.causal = causal;
    head.log_stride = log_stride;
    head.landmarks = landmarks;
    return head;
}

std::optional<std::string> rule(const wdt_head &head) {
    const char *broken = wdt_head_rule(&head);
    return broken ? std::optional<std::string>(broken) : std::nullopt;
}

// Ascending.
std::vector<int64_t> held(const Cache &cache) {
    std::vector<int64_t> positions(static_cast<size_t>(wdt_cache_held(&cache.cache)));
    wdt_cache_positions(&cache.cache, positions.data());
    std::sort(positions.begin(), positions.end());
    return positions;
}

nb::object positions(Cache &cache) {
    Claim claim(cache.busy);
    std::vector<int64_t> all = held(cache);
    const size_t length = all.size();
    return owned(std::move(all), {length});
}

// keys, values [length, Hkv, D]: as many as are held once the cache is ours
nb::tuple read_tokens(Cache &cache) {
    Claim claim(cache.busy);
    const std::vector<int64_t> positions = held(cache);
    const size_t length = positions.size(), heads = static_cast<size_t>(cache.cache.kv_heads);
    const auto head_dim = static_cast<size_t>(cache.cache.head_dim), row = heads * head_dim;
    std::vector<float> keys(length * row), values(length * row);
    for (size_t t = 0; t < length; t++) {
        wdt_cache_read(&cache.cache, static_cast<ptrdiff_t>(positions[t]), keys.data() + t * row,
                       values.data() + t * row);
    }
    return nb::make_tuple(owned(std::move(keys), {length, heads, head_dim}),
                          owned(std::move(values), {length, heads, head_dim}));
}

Cache *copy(Cache &cache) {
    Claim claim(cache.busy);
    nb::gil_scoped_release release;
    return new Cache(cache, cache.cache.capacity);
}

// What is held and nothing else: the memory of a copy that is just large enough. Of an evicting policy there is one
// size only, and the position follows.
nb::bytes tobytes(Cache &cache) {
    Claim claim(cache.busy);
    const int64_t position = cache.cache.length;
    const bool evicts = cache.cache.policy == &wdt_sliding || cache.cache.policy == &wdt_heavy_hitter;
    const Cache compact(cache, evicts ? cache.cache.capacity : std::max<ptrdiff_t>(cache.cache.length, 1));
    std::string bytes(static_cast<const char *>(compact.memory.data.get()), compact.memory.bytes);
    if (evicts) {
        bytes.append(reinterpret_cast<const char *>(&position), sizeof position);
    }
    return nb::bytes(bytes.data(), bytes.size());
}

} // namespace

void bind_head(nb::module_ &m) {
    m.attr("MAX_EXTENT") = WDT_MAX_EXTENT;
    m.attr("MAX_VALUE") = WDT_MAX_VALUE;
    m.attr("MAX_GLOBAL_TOKENS") = WDT_MAX_GLOBAL_TOKENS;
    m.attr("DEFAULT_LANDMARK_BLOCKS") = WDT_DEFAULT_LANDMARK_BLOCKS;

    nb::class_<wdt_head>(m, "Head")
        .def_ro("q_heads", &wdt_head::q_heads)
        .def_ro("kv_heads", &wdt_head::kv_heads)
        .def_ro("head_dim", &wdt_head::head_dim)
        .def_ro("window", &wdt_head::window)
        .def_ro("block_size", &wdt_head::block_size)
        .def_prop_ro("dense", [](const wdt_head &h) { return h.dense != 0; })
        .def_prop_ro("causal", [](const wdt_head &h) { return h.causal != 0; })
        .def_prop_ro("log_stride", [](const wdt_head &h) { return h.log_stride != 0; })
        .def_prop_ro("landmarks", [](const wdt_head &h) { return h.landmarks != 0; })
        .def_prop_ro("global_tokens", [](const wdt_head &h) {
            return std::vector<int32_t>(h.global_tokens, h.global_tokens + h.n_global_tokens);
        });
    m.def("make_head", &make_head, nb::arg("dense"), nb::arg("q_heads"), nb::arg("kv_heads"), nb::arg("head_dim"),
          nb::arg("window"), nb::arg("block_size"), nb::arg("causal"), nb::arg("log_stride"), nb::arg("landmarks"),
          nb::arg("global_tokens"));
    m.def("default_head", &wdt_head_default);
    m.def("head_rule", &rule);
    m.def("edge_count", &wdt_edge_count, nb::call_guard<nb::gil_scoped_release>());
    m.def("first_unusable", [](In<1> x) { return wdt_first_unusable(x.data(), x.size()); });

    nb::class_<Cache>(m, "Cache", nb::is_final())
        .def("__init__",
             [](Cache *made, const wdt_head &head, ptrdiff_t capacity, bool half, const std::string &policy,
                ptrdiff_t landmark_blocks) {
                 new (made) Cache(head, cache_config(capacity, half, policy, landmark_blocks));
             })
        .def_prop_ro("length", [](const Cache &c) { return wdt_cache_held(&c.cache); })
        .def_prop_ro("position", [](const Cache &c) { return c.cache.length; })
        .def_prop_ro("is_full", [](const Cache &c) { return wdt_cache_is_full(&c.cache) != 0; })
        .def_prop_ro("capacity", [](const Cache &c) { return c.cache.capacity; })
        .def_prop_ro("kv_heads", [](const Cache &c) { return c.cache.kv_heads; })
        .def_prop_ro("head_dim", [](const Cache &c) { return c.cache.head_dim; })
        .def_prop_ro("nbytes", [](const Cache &c) { return c.memory.bytes; })
        .def("clear", [](Cache &c) { Claim claim(c.busy); wdt_cache_clear(&c.cache); })
        .def("copy", &copy, nb::rv_policy::take_ownership)
        .def("positions", &positions)
        .def("read", &read_tokens)
        .def("tobytes", &tobytes);
}
