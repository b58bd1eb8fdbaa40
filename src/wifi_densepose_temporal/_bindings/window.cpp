// The window pass and its gradient, spread over threads by parts: a part is one batch item's key/value head.
#include <deque>

#include "floats.h"
#include "parallel.h"

namespace {

// Batch and length of q [T, Hq, D] or [B, T, Hq, D].
struct Extent {
    ptrdiff_t batch, T;

    explicit Extent(const Floats &q) : batch(q.rank() == 4 ? q.shape()[0] : 1), T(q.shape()[q.rank() - 3]) {}
};

// Plain, with q's axes before its last two, then heads and D.
bool is_window(const Floats &x, const Floats &q, int32_t heads, int32_t head_dim) {
    if (q.rank() == 3) {
        return x.is({q.shape()[0], heads, head_dim});
    }
    return q.rank() == 4 && x.is({q.shape()[0], q.shape()[1], heads, head_dim});
}

bool are_windows(const wdt_head &head, const Floats &q, const Floats &k, const Floats &v) {
    return is_window(q, q, head.q_heads, head.head_dim) && is_window(k, q, head.kv_heads, head.head_dim) &&
           is_window(v, q, head.kv_heads, head.head_dim);
}

// The arrays of a whole call. log_sum may be null.
struct Arrays {
    const wdt_head &head;
    Extent extent;
    const float *q, *k, *v;
    float *out, *log_sum;

    ptrdiff_t parts() const { return extent.T ? extent.batch * head.kv_heads : 0; }
    ptrdiff_t queries() const { return extent.T * head.q_heads; } // of one batch item
    ptrdiff_t query_size() const { return queries() * head.head_dim; }
    ptrdiff_t key_size() const { return extent.T * head.kv_heads * head.head_dim; }

    wdt_window part(ptrdiff_t number, void *prepared) const {
        const ptrdiff_t b = number / head.kv_heads;
        return {&head, extent.T, static_cast<int32_t>(number % head.kv_heads), q + b * query_size(), k + b * key_size(),
                v + b * key_size(), out + b * query_size(), log_sum ? log_sum + b * queries() : nullptr, prepared};
    }
};

std::vector<Memory> blocks(int count, size_t bytes) {
    std::vector<Memory> made;
    made.reserve(static_cast<size_t>(count));
    for (int n = 0; n < count; n++) {
        made.push_back(Memory::unset(bytes));
    }
    return made;
}

// Each thread takes whole parts, and has memory of its own for one.
void attend_parts(const Arrays &arrays, int threads) {
    const wdt_head *const head = &arrays.head;
    const std::vector<Memory> prepared = blocks(threads, wdt_window_prepared_bytes(head, arrays.extent.T));
    const std::vector<Memory> scratch = blocks(threads, wdt_window_scratch_bytes(head, arrays.extent.T));
    Tasks parts(arrays.parts());
    on_threads(threads, [&](int thread) {
        parts.take([&](ptrdiff_t p) {
            const wdt_window window = arrays.part(p, prepared[static_cast<size_t>(thread)].data.get());
            wdt_window_prepare(&window, 0, 1);
            wdt_window_attend(&window, 0, 1, scratch[static_cast<size_t>(thread)].data.get());
        });
    });
}

// All threads share each part: one is prepared, then attended, then the next.
void attend_shares(const Arrays &arrays, int threads) {
    const wdt_head *const head = &arrays.head;
    const Memory prepared = Memory::unset(wdt_window_prepared_bytes(head, arrays.extent.T));
    const std::vector<Memory> scratch = blocks(threads, wdt_window_scratch_bytes(head, arrays.extent.T));
    // More shares than threads, because a late position of a dense head takes longer than an early one.
    const int shares = useful_tasks(4 * threads, arrays.extent.T);
    std::deque<Tasks> tasks;
    for (ptrdiff_t p = 0; p < 2 * arrays.parts(); p++) {
        tasks.emplace_back(shares);
    }
    on_threads(threads, [&](int thread) {
        for (ptrdiff_t p = 0; p < arrays.parts(); p++) {
            const wdt_window window = arrays.part(p, prepared.data.get());
            Tasks &preparing = tasks[static_cast<size_t>(2 * p)], &attending = tasks[static_cast<size_t>(2 * p + 1)];
            preparing.take([&](ptrdiff_t share) { wdt_window_prepare(&window, static_cast<int>(share), shares); });
            preparing.wait();
            attending.take([&](ptrdiff_t share) {
                wdt_window_attend(&window, static_cast<int>(share), shares,
                                  scratch[static_cast<size_t>(thread)].data.get());
            });
            attending.wait(); // before `prepared` is written again
        }
    });
}

void attend(const Arrays &arrays, int most_threads) {
    const int threads = useful_tasks(most_threads, arrays.parts() * arrays.extent.T);
    if (arrays.parts() >= threads) {
        attend_parts(arrays, threads);
    } else {
        attend_shares(arrays, threads);
    }
}

struct Gradients {
    const float *d_out;
    float *dq, *dk, *dv;
};

void differentiate(const Arrays &arrays, const Gradients &gradients, int most_threads) {
    const ptrdiff_t useful = useful_tasks(most_threads, arrays.parts() * arrays.extent.T);
    const int threads = static_cast<int>(std::clamp<ptrdiff_t>(arrays.parts(), 1, useful));
    const std::vector<Memory> scratch = blocks(threads, wdt_window_backward_bytes(&arrays.head, arrays.extent.T));
    Tasks parts(arrays.parts());
    on_threads(threads, [&](int thread) {
        parts.take([&](ptrdiff_t p) {
            const ptrdiff_t b = p / arrays.head.kv_heads, query = b * arrays.query_size(), key = b * arrays.key_size();
            const wdt_window window = arrays.part(p, nullptr);
            wdt_window_backward(&window, gradients.d_out + query, gradients.dq + query, gradients.dk + key,
                                gradients.dv + key, scratch[static_cast<size_t>(thread)].data.get());
        });
    });
}

// Whether all numbers are finite. Long arrays take a while to read, so threads share them.
bool all_finite(std::initializer_list<const Floats *> arrays, int most_threads) {
    constexpr size_t piece = 1 << 18;
    std::vector<std::pair<const float *, size_t>> pieces;
    for (const Floats *x : arrays) {
        for (size_t begin = 0; begin < x->size(); begin += piece) {
            pieces.emplace_back(x->data() + begin, std::min(piece, x->size() - begin));
        }
    }
    std::atomic<bool> finite{true};
    Tasks tasks(static_cast<ptrdiff_t>(pieces.size()));
    on_threads(std::clamp(static_cast<int>(pieces.size() / 2), 1, most_threads), [&](int) {
        tasks.take([&](ptrdiff_t p) {
            const auto &[from, size] = pieces[static_cast<size_t>(p)];
            if (wdt_first_unusable(from, size) >= 0) {
                finite = false;
            }
        });
    });
    return finite;
}

// Runs work() without the GIL if all numbers of these arrays are finite, and says whether.
template <typename Work>
bool if_finite(std::initializer_list<const Floats *> arrays, int most_threads, const Work &work) {
    nb::gil_scoped_release release;
    const bool finite = all_finite(arrays, most_threads);
    if (finite) {
        work();
    }
    return finite;
}

// q, out [T, Hq, D] or [B, T, Hq, D]; k, v with Hkv. Gives out, a new one for None; or None as floats.h says.
nb::object forward(const wdt_head &head, nb::handle q, nb::handle k, nb::handle v, nb::object out, nb::handle threads) {
    const int wanted = threads_of(threads);
    const Floats query(q), key(k), value(v);
    if (!wanted || !are_windows(head, query, key, value)) {
        return nb::none();
    }
    const Result result(std::move(out), query, {&key, &value});
    if (!result.usable) {
        return nb::none();
    }
    const Arrays arrays{head, Extent(query), query.data(), key.data(), value.data(), result.floats.data(), nullptr};
    return if_finite({&query, &key, &value}, wanted, [&] { attend(arrays, wanted); }) ? result.array : nb::none();
}

// As forward; gives (out, log_sum [T, Hq] or [B, T, Hq]).
nb::object forward_with_log_sum(const wdt_head &head, nb::handle q, nb::handle k, nb::handle v, nb::handle threads) {
    const int wanted = threads_of(threads);
    const Floats query(q), key(k), value(v);
    if (!wanted || !are_windows(head, query, key, value)) {
        return nb::none();
    }
    nb::object out = empty_floats(query.shape(), query.rank());
    nb::object log_sum = empty_floats(query.shape(), query.rank() - 1);
    const Floats result(out), sums(log_sum);
    const Arrays arrays{head, Extent(query), query.data(), key.data(), value.data(), result.data(), sums.data()};
    const bool finite = if_finite({&query, &key, &value}, wanted, [&] { attend(arrays, wanted); });
    return finite ? nb::make_tuple(out, log_sum) : nb::object(nb::none());
}

// (dq, dk, dv) of the shapes of q, k, v, with out and log_sum as forward_with_log_sum gives them; or None.
nb::object backward(const wdt_head &head, nb::handle q, nb::handle k, nb::handle v, nb::handle out, nb::handle log_sum,
                    nb::handle d_out, nb::handle threads) {
    const int wanted = threads_of(threads);
    const Floats query(q), key(k), value(v), result(out), sums(log_sum), d_result(d_out);
    if (!wanted || !are_windows(head, query, key, value) || !result.is(query.shape(), query.rank()) ||
        !sums.is(query.shape(), query.rank() - 1) || !d_result.is(query.shape(), query.rank())) {
        return nb::none();
    }
    nb::object dq = empty_floats(query.shape(), query.rank());
    nb::object dk = empty_floats(key.shape(), key.rank()), dv = empty_floats(key.shape(), key.rank());
    const Floats d_query(dq), d_key(dk), d_value(dv);
    const Arrays arrays{head, Extent(query), query.data(), key.data(), value.data(), result.data(), sums.data()};
    const Gradients gradients{d_result.data(), d_query.data(), d_key.data(), d_value.data()};
    const bool finite = if_finite({&d_result}, wanted, [&] { differentiate(arrays, gradients, wanted); });
    return finite ? nb::make_tuple(dq, dk, dv) : nb::object(nb::none());
}

} // namespace

void bind_window(nb::module_ &m) {
    const nb::arg own;
    const auto any = any_object();
    m.def("forward", &forward, own, any, any, any, any, any);
    m.def("forward_with_log_sum", &forward_with_log_sum, own, any, any, any, any);
    m.def("backward", &backward, own, any, any, any, any, any, any, any);
}
