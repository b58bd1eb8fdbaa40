// What the binding files share: array types, and the rule that one object is one thread's at a time.
// The layer is thin on purpose: Python checks shapes, dtypes and finiteness, and turns statuses into errors.
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

void bind_head(nb::module_ &m);
void bind_blob(nb::module_ &m);
void bind_model(nb::module_ &m);
void bind_chain(nb::module_ &m);

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

// calloc, because the pages of a large cache are then not touched before they are used.
struct Memory {
    std::unique_ptr<void, decltype(&std::free)> data{nullptr, &std::free};
    size_t bytes = 0;

    explicit Memory(size_t size) : bytes(size) {
        if (size != SIZE_MAX) {
            data.reset(std::calloc(size ? size : 1, 1));
        }
        if (!data) {
            throw std::bad_alloc();
        }
    }
};

// Held while a thread is inside an object whose kernels run without the GIL; a second thread is refused.
class Claim {
    std::atomic<bool> &busy;

  public:
    explicit Claim(std::atomic<bool> &flag) : busy(flag) {
        if (busy.exchange(true)) {
            nb::object error = nb::module_::import_("wifi_densepose_temporal.errors").attr("CacheInUseError");
            PyErr_SetString(error.ptr(), "another thread is inside this cache or stream; give each thread its own "
                                         "(copy() makes one), or take a lock around its calls");
            throw nb::python_error();
        }
    }
    ~Claim() { busy.store(false); }
    Claim(const Claim &) = delete;
    Claim &operator=(const Claim &) = delete;
};
