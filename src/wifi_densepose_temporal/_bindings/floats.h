// Float32 array arguments as they lie in memory: no copy, no conversion, no call into Python.
//
// Plain is an array that needs none: of NumPy's own class (a subclass may carry a mask), native float32, C order,
// aligned. A function that is given another one, or numbers that are not finite, has done nothing and returns None:
// its caller in Python converts what can be converted, or says what is wrong.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "bindings.h"

#include "wdt_attention.h"

// Annotates a parameter that takes any object: without it, nanobind keeps None out.
inline auto any_object() { return nb::arg().none(); }

// What is needed of NumPy, looked up once and kept.
struct Numpy {
    nb::object array_type, empty, float32;

    static const Numpy &get() {
        static const Numpy *const numpy = [] {
            nb::module_ module = nb::module_::import_("numpy");
            return new Numpy{module.attr("ndarray"), module.attr("empty"), module.attr("dtype")("float32")};
        }();
        return *numpy;
    }
};

// A new float32 array whose numbers are not set.
inline nb::object empty_floats(const Py_ssize_t *shape, size_t rank) {
    nb::object sizes = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(rank)));
    for (size_t axis = 0; sizes.is_valid() && axis < rank; axis++) {
        PyTuple_SET_ITEM(sizes.ptr(), static_cast<Py_ssize_t>(axis), PyLong_FromSsize_t(shape[axis]));
    }
    PyObject *const arguments[] = {sizes.ptr(), Numpy::get().float32.ptr()};
    PyObject *const array =
        sizes.is_valid() ? PyObject_Vectorcall(Numpy::get().empty.ptr(), arguments, 2, nullptr) : nullptr;
    if (!array) {
        throw nb::python_error();
    }
    return nb::steal(array);
}

inline nb::object empty_floats(std::initializer_list<Py_ssize_t> shape) {
    return empty_floats(shape.begin(), shape.size());
}

// A view of one argument, held while it lives. Made and dropped with the GIL.
class Floats {
    Py_buffer view{}; // view.obj is null where the argument is not plain

  public:
    // flags: PyBUF_WRITABLE for an output.
    explicit Floats(nb::handle array, int flags = 0) {
        if (reinterpret_cast<PyObject *>(Py_TYPE(array.ptr())) != Numpy::get().array_type.ptr()) {
            return;
        }
        if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) != 0) {
            PyErr_Clear();
            return;
        }
        if (std::strcmp(view.format, "f") != 0 || reinterpret_cast<uintptr_t>(view.buf) % alignof(float) != 0) {
            PyBuffer_Release(&view);
        }
    }
    ~Floats() { PyBuffer_Release(&view); }
    Floats(const Floats &) = delete;
    Floats &operator=(const Floats &) = delete;

    float *data() const { return static_cast<float *>(view.buf); }
    size_t size() const { return static_cast<size_t>(view.len) / sizeof(float); }
    size_t rank() const { return view.obj ? static_cast<size_t>(view.ndim) : 0; }
    const Py_ssize_t *shape() const { return view.shape; }

    // Plain, and of this shape.
    bool is(const Py_ssize_t *sizes, size_t axes) const {
        return view.obj && rank() == axes && std::equal(sizes, sizes + axes, view.shape);
    }
    bool is(std::initializer_list<Py_ssize_t> sizes) const { return is(sizes.begin(), sizes.size()); }

    bool finite() const { return wdt_first_unusable(data(), size()) < 0; }
    bool overlaps(const Floats &other) const {
        return data() < other.data() + other.size() && other.data() < data() + size();
    }
};

// Where a result of q's shape goes: the array that the caller gave, or a new one for None.
class Result {
  public:
    nb::object array;
    Floats floats;
    bool usable; // plain, and apart from q and what else is read

    Result(nb::object given, const Floats &q, std::initializer_list<const Floats *> read)
        : array(given.is_none() ? empty_floats(q.shape(), q.rank()) : std::move(given)), floats(array, PyBUF_WRITABLE),
          usable(floats.is(q.shape(), q.rank()) && !floats.overlaps(q) &&
                 std::none_of(read.begin(), read.end(), [this](const Floats *x) { return floats.overlaps(*x); })) {}
};
