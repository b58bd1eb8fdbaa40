// What the binding files share: array types, memory, and the rule that one object is one call's at a time.
// The layer is thin on purpose: it converts nothing, and words one error. floats.h says what it takes as an array.
#pragma once

#include <atomic>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace nb = nanobind;

void bind_kernels(nb::module_ &m);
void bind_head(nb::module_ &m);
void bind_step(nb::module_ &m);
void bind_window(nb::module_ &m);
void bind_blob(nb::module_ &m);
void bind_model(nb::module_ &m);
void bind_pool(nb::module_ &m);
void bind_chain(nb::module_ &m);
void bind_wire(nb::module_ &m);
void bind_node(nb::module_ &m);

// The parameters of a feature chain by their names; in version 2 with a list of its parts.
struct wdt_chain_params;
nb::dict chain_words(const wdt_chain_params &params);

template <int Rank> using In = nb::ndarray<const float, nb::ndim<Rank>, nb::c_contig, nb::device::cpu>;
template <int Rank> using Out = nb::ndarray<float, nb::ndim<Rank>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// A vector's memory as a NumPy array that owns it.
template <typename Item> nb::object owned(std::vector<Item> &&items, std::initializer_list<size_t> shape)
{
    auto kept = std::make_unique<std::vector<Item>>(std::move(items));
    nb::capsule owner(kept.get(), [](void *p) noexcept { delete static_cast<std::vector<Item> *>(p); });
    return nb::cast(nb::ndarray<nb::numpy, Item>(kept.release()->data(), shape, owner));
}

// A block of memory, or std::bad_alloc; SIZE_MAX, which the core gives for what no address reaches, is too much too.
struct Memory {
    std::unique_ptr<void, decltype(&std::free)> data;
    size_t bytes;

    // Zeros by calloc: the pages of a large cache are not touched before they are used.
    static Memory zeroed(size_t size) {
        return {size == SIZE_MAX ? nullptr : std::calloc(size ? size : 1, 1), size};
    }
    // For what is written before it is read.
    static Memory unset(size_t size) {
        return {size == SIZE_MAX ? nullptr : std::malloc(size ? size : 1), size};
    }

  private:
    Memory(void *block, size_t size) : data(block, &std::free), bytes(size) {
        if (!data) {
            throw std::bad_alloc();
        }
    }
};

// Taken while a call is inside an object whose kernels run without the GIL; a second call is refused.
class Busy {
    std::atomic<bool> taken{false};

  public:
    bool take() noexcept { return !taken.exchange(true, std::memory_order_acquire); }
    void leave() noexcept { taken.store(false, std::memory_order_release); }
};

inline nb::object in_use_error() {
    return nb::module_::import_("wifi_densepose_temporal.errors")
        .attr("CacheInUseError")("another call is inside this cache or stream: give each thread, and each track of a "
                                 "batch, its own (copy() makes one), or take a lock around its calls");
}

// Takes what is free for as long as it lives; raises CacheInUseError where it is not.
class Claim {
    Busy &busy;

  public:
    explicit Claim(Busy &busy) : busy(busy) {
        if (!busy.take()) {
            nb::object error = in_use_error();
            PyErr_SetObject(error.type().ptr(), error.ptr());
            throw nb::python_error();
        }
    }
    ~Claim() { busy.leave(); }
    Claim(const Claim &) = delete;
    Claim &operator=(const Claim &) = delete;
};
