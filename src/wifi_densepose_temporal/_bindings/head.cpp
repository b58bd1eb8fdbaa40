// The head, the window pass, the cache and the step.
#include "bindings.h"

#include <algorithm>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "wdt_attention.h"

namespace {

// One sequence's cache and the memory it lies in.
struct Cache {
    Memory memory;
    wdt_cache cache{};
    std::atomic<bool> busy{false};

    Cache(const wdt_head &head, ptrdiff_t capacity, bool half) : memory(wdt_cache_bytes(&head, capacity, half)) {
        if (wdt_cache_init(&cache, &head, capacity, half, memory.data.get()) != WDT_OK) {
            throw std::invalid_argument("the head is not a valid causal one, or capacity is below 1");
        }
    }
    // What `other` holds, in room for `capacity` tokens.
    Cache(const Cache &other, ptrdiff_t capacity) : memory(wdt_cache_copy_bytes(&other.cache, capacity)) {
        wdt_cache_copy(&cache, &other.cache, capacity, memory.data.get());
    }
};

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

// q, out [B, T, Hq, D]; k, v [B, T, Hkv, D]
void forward(const wdt_head &head, In<4> q, In<4> k, In<4> v, Out<4> out) {
    const auto batch = static_cast<ptrdiff_t>(q.shape(0)), T = static_cast<ptrdiff_t>(q.shape(1));
    const ptrdiff_t query_size = T * head.q_heads * head.head_dim, key_size = T * head.kv_heads * head.head_dim;
    nb::gil_scoped_release release;
    Memory scratch(wdt_forward_scratch_bytes(&head, T));
    for (ptrdiff_t b = 0; b < batch; b++) {
        wdt_forward(&head, T, q.data() + b * query_size, k.data() + b * key_size, v.data() + b * key_size,
                    out.data() + b * query_size, scratch.data.get());
    }
}

// q, out [Hq, D]; k, v [Hkv, D]
wdt_status step(const wdt_head &head, Cache &cache, In<2> q, In<2> k, In<2> v, Out<2> out) {
    Claim claim(cache.busy);
    nb::gil_scoped_release release;
    return wdt_step(&head, &cache.cache, q.data(), k.data(), v.data(), out.data());
}

// keys, values [length, Hkv, D]: as many as are held once the cache is ours
nb::tuple read_tokens(Cache &cache) {
    Claim claim(cache.busy);
    const auto length = static_cast<size_t>(cache.cache.length), heads = static_cast<size_t>(cache.cache.kv_heads);
    const auto head_dim = static_cast<size_t>(cache.cache.head_dim), row = heads * head_dim;
    std::vector<float> keys(length * row), values(length * row);
    for (size_t t = 0; t < length; t++) {
        wdt_cache_read(&cache.cache, static_cast<ptrdiff_t>(t), keys.data() + t * row, values.data() + t * row);
    }
    return nb::make_tuple(owned(std::move(keys), {length, heads, head_dim}),
                          owned(std::move(values), {length, heads, head_dim}));
}

Cache *copy(Cache &cache) {
    Claim claim(cache.busy);
    nb::gil_scoped_release release;
    return new Cache(cache, cache.cache.capacity);
}

// What is held and nothing else: the memory of a copy that is just large enough.
nb::bytes tobytes(Cache &cache) {
    Claim claim(cache.busy);
    const Cache compact(cache, std::max<ptrdiff_t>(cache.cache.length, 1));
    return nb::bytes(compact.memory.data.get(), compact.memory.bytes);
}

} // namespace

void bind_head(nb::module_ &m) {
    m.attr("MAX_EXTENT") = WDT_MAX_EXTENT;
    m.attr("MAX_VALUE") = WDT_MAX_VALUE;
    m.attr("MAX_GLOBAL_TOKENS") = WDT_MAX_GLOBAL_TOKENS;

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
    m.def("forward", &forward);
    m.def("first_unusable", [](In<1> x) { return wdt_first_unusable(x.data(), x.size()); });

    nb::class_<Cache>(m, "Cache")
        .def(nb::init<const wdt_head &, ptrdiff_t, bool>())
        .def_prop_ro("length", [](const Cache &c) { return c.cache.length; })
        .def_prop_ro("capacity", [](const Cache &c) { return c.cache.capacity; })
        .def_prop_ro("kv_heads", [](const Cache &c) { return c.cache.kv_heads; })
        .def_prop_ro("head_dim", [](const Cache &c) { return c.cache.head_dim; })
        .def_prop_ro("nbytes", [](const Cache &c) { return c.memory.bytes; })
        .def("clear", [](Cache &c) { Claim claim(c.busy); c.cache.length = 0; })
        .def("copy", &copy, nb::rv_policy::take_ownership)
        .def("read", &read_tokens)
        .def("tobytes", &tobytes);
    m.def("step", &step);
}
