// Streams of one model in slots of large pieces of memory, and one call that pushes a frame into each of many.
// Which track has which slot, times and the like are Python's (streams/pool.py).
#include "model.h"

#include <cstdint>
#include <stdexcept>

#include <sys/mman.h>

#include <nanobind/stl/string.h>

#include "cache.h"
#include "floats.h"
#include "parallel.h"

#include "wdt_streams.h"

namespace {

constexpr size_t LINE = 64;             // bytes of a cache line: a track shares none with another one
constexpr size_t HUGE_PAGE = 2u << 20; // where the system has them: tracks are far apart, and a page table is no help

// Pages from the system, zeros, given back when this goes.
class Slab {
    void *pages;
    size_t mapped;

  public:
    char *begin;

    explicit Slab(size_t bytes) : mapped(bytes + HUGE_PAGE) {
        if (bytes > SIZE_MAX / 2) {
            throw std::bad_alloc();
        }
        pages = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED) {
            throw std::bad_alloc();
        }
        const auto address = reinterpret_cast<uintptr_t>(pages);
        begin = static_cast<char *>(pages) + (HUGE_PAGE - address % HUGE_PAGE) % HUGE_PAGE;
#ifdef MADV_HUGEPAGE
        if (bytes >= HUGE_PAGE) {
            madvise(begin, bytes, MADV_HUGEPAGE);
        }
#endif
    }
    ~Slab() { munmap(pages, mapped); }
    Slab(const Slab &) = delete;
    Slab &operator=(const Slab &) = delete;
};

using Slots = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Statuses = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

class Pool {
    Busy busy;
    const wdt_model &model;
    wdt_cache_config config;
    std::vector<std::unique_ptr<Slab>> slabs;
    std::vector<wdt_stream> streams; // by slot
    std::vector<char *> memory;      // of each

    wdt_stream laid_out(char *at) const {
        wdt_stream stream{};
        if (wdt_stream_init_state(&stream, &model, &config, at) != WDT_OK) {
            throw std::invalid_argument("capacity is below 1, or no stream has this policy");
        }
        return stream;
    }
    void empty(size_t slot) {
        std::memset(memory[slot], 0, stride);
        streams[slot] = laid_out(memory[slot]);
    }
    size_t checked(ptrdiff_t slot) const {
        if (slot < 0 || static_cast<size_t>(slot) >= streams.size()) {
            throw std::out_of_range("no such slot");
        }
        return static_cast<size_t>(slot);
    }
    // Those rows that have a slot, which is below 0 for the others, and no slot twice.
    std::vector<wdt_push> pushes_of(const Slots &slots, const In<2> &frames, const Out<2> &logits,
                                    const Out<2> &embedding, const Statuses &status) {
        const size_t count = slots.shape(0);
        const auto F = static_cast<size_t>(model.features), C = static_cast<size_t>(model.classes),
                   E = static_cast<size_t>(model.embedding_dim);
        if (frames.shape(0) != count || frames.shape(1) != F || logits.shape(0) != count || logits.shape(1) != C ||
            embedding.shape(0) != count || embedding.shape(1) != E || status.shape(0) != count) {
            throw std::invalid_argument("arrays of other sizes");
        }
        std::vector<wdt_push> pushes;
        std::vector<char> taken(streams.size());
        pushes.reserve(count);
        for (size_t i = 0; i < count; i++) {
            if (slots.data()[i] < 0) {
                continue;
            }
            const size_t slot = checked(slots.data()[i]);
            if (taken[slot]++) {
                throw std::invalid_argument("a slot stands there twice");
            }
            pushes.push_back({&streams[slot], frames.data() + i * F, logits.data() + i * C, embedding.data() + i * E,
                              WDT_OK});
        }
        return pushes;
    }

  public:
    size_t stride; // bytes of a slot

    Pool(const Model &loaded, const wdt_cache_config &config)
        : model(loaded.model), config(config), stride(wdt_stream_state_bytes(&loaded.model, &config)) {
        if (stride > SIZE_MAX / 2) {
            throw std::bad_alloc();
        }
        stride = (stride + LINE - 1) / LINE * LINE;
    }

    // More slots, at the end.
    void grow(size_t count) {
        Claim claim(busy);
        if (count > SIZE_MAX / 2 / stride) {
            throw std::bad_alloc();
        }
        streams.reserve(streams.size() + count);
        memory.reserve(streams.size() + count);
        auto slab = std::make_unique<Slab>(count * stride);
        std::vector<wdt_stream> added;
        for (size_t i = 0; i < count; i++) {
            added.push_back(laid_out(slab->begin + i * stride));
        }
        slabs.push_back(std::move(slab)); // from here on nothing throws
        for (size_t i = 0; i < count; i++) {
            streams.push_back(added[i]);
            memory.push_back(slabs.back()->begin + i * stride);
        }
    }

    void reset(ptrdiff_t slot) {
        Claim claim(busy);
        wdt_stream_reset(&streams[checked(slot)]);
    }

    // As it came from the system: nothing of the track is left in memory.
    void clear(ptrdiff_t slot) {
        Claim claim(busy);
        empty(checked(slot));
    }

    // slots [N], frames [N, F] -> logits [N, C], embedding [N, E] and status [N] of the rows whose slot is not below 0.
    void push(Slots slots, In<2> frames, Out<2> logits, Out<2> embedding, Statuses status, int threads) {
        Claim claim(busy);
        nb::gil_scoped_release release;
        std::vector<wdt_push> pushes = pushes_of(slots, frames, logits, embedding, status);
        const auto count = static_cast<ptrdiff_t>(pushes.size());
        const int used = useful_tasks(std::clamp(threads, 1, MAX_THREADS), count);
        std::vector<Memory> scratch;
        for (int thread = 0; thread < used; thread++) {
            scratch.push_back(Memory::unset(wdt_streams_scratch_bytes(&model)));
        }
        Tasks runs((count + POSITIONS_A_TASK - 1) / POSITIONS_A_TASK);
        on_threads(used, [&](int thread) {
            runs.take([&](ptrdiff_t run) {
                const ptrdiff_t begin = run * POSITIONS_A_TASK;
                wdt_streams_push(&model, pushes.data() + begin, std::min(POSITIONS_A_TASK, count - begin),
                                 scratch[static_cast<size_t>(thread)].data.get());
            });
        });
        for (size_t i = 0, p = 0; i < slots.shape(0); i++) {
            if (slots.data()[i] >= 0) {
                status.data()[i] = static_cast<uint8_t>(pushes[p++].status);
            }
        }
    }

    // A slot's state, of wdt_streams.h's layout: the same bytes wherever it lies.
    nb::bytes save(ptrdiff_t slot) {
        Claim claim(busy);
        const wdt_stream *const stream = &streams[checked(slot)];
        nb::object bytes = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(state_bytes())));
        if (!bytes.is_valid()) {
            throw nb::python_error();
        }
        wdt_stream_save(stream, &config, PyBytes_AS_STRING(bytes.ptr()));
        return nb::borrow<nb::bytes>(bytes);
    }

    // False: those bytes are no state of this model and these caches, and the slot is empty.
    bool load(ptrdiff_t slot, nb::bytes bytes) {
        Claim claim(busy);
        const size_t at = checked(slot);
        const bool fits =
            bytes.size() == state_bytes() && wdt_stream_load(&streams[at], &config, bytes.data()) == WDT_OK;
        if (!fits) {
            empty(at);
        }
        return fits;
    }

    // Of any slot.
    size_t state_bytes() const { return wdt_stream_saved_bytes(&model, &config); }
    size_t slots() const { return streams.size(); }
};

} // namespace

void bind_pool(nb::module_ &m) {
    nb::class_<Pool>(m, "Pool")
        .def("__init__",
             [](Pool *made, const Model &model, ptrdiff_t capacity, bool half, const std::string &policy,
                ptrdiff_t landmark_blocks) {
                 new (made) Pool(model, cache_config(capacity, half, policy, landmark_blocks));
             },
             nb::keep_alive<1, 2>())
        .def("grow", &Pool::grow)
        .def("reset", &Pool::reset)
        .def("clear", &Pool::clear)
        .def("push", &Pool::push)
        .def("save", &Pool::save)
        .def("load", &Pool::load)
        .def_prop_ro("slots", &Pool::slots)
        .def_prop_ro("state_bytes", &Pool::state_bytes)
        .def_ro("stride", &Pool::stride);
}
