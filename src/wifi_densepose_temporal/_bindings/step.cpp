// The step: one token of one track, or one token of each track of a batch.
#include <cmath>
#include <limits>

#include "cache.h"
#include "floats.h"
#include "parallel.h"

namespace {

// Plain [heads, D] or [1, heads, D], and finite.
bool is_token(const Floats &x, int32_t heads, int32_t head_dim) {
    return (x.is({heads, head_dim}) || x.is({1, heads, head_dim})) && x.finite();
}

// q, out [Hq, D] or [1, Hq, D]; k, v [Hkv, D] or [1, Hkv, D]; scores [length], finite, or None. Gives out, a new one
// for None; or None as floats.h says; or the core's refusal.
nb::object step(const wdt_head &head, Cache &cache, nb::handle q, nb::handle k, nb::handle v, nb::object out,
                nb::handle scores) {
    const Floats query(q), key(k), value(v);
    if (!is_token(query, head.q_heads, head.head_dim) || !is_token(key, head.kv_heads, head.head_dim) ||
        !is_token(value, head.kv_heads, head.head_dim)) {
        return nb::none();
    }
    const Result result(std::move(out), query, {&key, &value});
    if (!result.usable) {
        return nb::none();
    }
    const bool scored = !scores.is_none();
    const Floats score(scores);
    Claim claim(cache.busy);
    if (scored && (!score.is({cache.cache.length}) || !score.finite() || score.overlaps(result.floats))) {
        return nb::none();
    }
    wdt_status status;
    {
        nb::gil_scoped_release release;
        float *const row = result.floats.data();
        status = scored ? wdt_step_with_scores(&head, &cache.cache, query.data(), key.data(), value.data(),
                                               score.data(), row)
                        : wdt_step(&head, &cache.cache, query.data(), key.data(), value.data(), row);
    }
    return status == WDT_OK ? result.array : nb::cast(status);
}

bool are_caches(nb::list all) {
    const nb::handle kind = nb::type<Cache>();
    return std::all_of(all.begin(), all.end(), [&](nb::handle cache) { return cache.type().is(kind); });
}

// The caches of a batch, each taken once for as long as this lives: one that stands there twice is refused the second
// time.
struct Tracks {
    std::vector<Cache *> caches;
    std::vector<char> taken;

    explicit Tracks(nb::list all) : taken(all.size()) {
        caches.reserve(all.size());
        for (nb::handle cache : all) {
            caches.push_back(nb::inst_ptr<Cache>(cache));
        }
        for (size_t i = 0; i < caches.size(); i++) {
            taken[i] = caches[i]->busy.take();
        }
    }
    ~Tracks() {
        for (size_t i = 0; i < caches.size(); i++) {
            if (taken[i]) {
                caches[i]->busy.leave();
            }
        }
    }
    Tracks(const Tracks &) = delete;
    Tracks &operator=(const Tracks &) = delete;
};

// Rows of q, out [N, Hq, D] and k, v [N, Hkv, D] for N tracks, and what became of each.
struct Batch {
    const wdt_head &head;
    const Tracks &tracks;
    const float *q, *k, *v;
    float *out;
    wdt_status *status;

    void prefetch(size_t i) const {
        if (tracks.taken[i]) {
            wdt_cache_prefetch(&tracks.caches[i]->cache, &head);
        }
    }

    // Steps track i. Refused: its row of out is NaN.
    void step(size_t i) const {
        const size_t queries = static_cast<size_t>(head.q_heads) * static_cast<size_t>(head.head_dim);
        const size_t keys = static_cast<size_t>(head.kv_heads) * static_cast<size_t>(head.head_dim);
        const float *const query = q + i * queries, *const key = k + i * keys, *const value = v + i * keys;
        float *const result = out + i * queries;
        if (wdt_first_unusable(query, queries) >= 0 || wdt_first_unusable(key, keys) >= 0 ||
            wdt_first_unusable(value, keys) >= 0) {
            status[i] = WDT_E_NON_FINITE;
        } else if (tracks.taken[i]) {
            status[i] = wdt_step(&head, &tracks.caches[i]->cache, query, key, value, result);
        }
        if (status[i] != WDT_OK || !tracks.taken[i]) {
            std::fill_n(result, queries, std::numeric_limits<float>::quiet_NaN());
        }
    }
};

// [(index, the core's refusal, or a CacheInUseError)]
nb::list refusals(const std::vector<wdt_status> &status, const Tracks &tracks) {
    nb::list refused;
    for (size_t i = 0; i < status.size(); i++) {
        if (status[i] != WDT_OK) {
            refused.append(nb::make_tuple(i, status[i]));
        } else if (!tracks.taken[i]) {
            refused.append(nb::make_tuple(i, in_use_error()));
        }
    }
    return refused;
}

// q, out [N, Hq, D]; k, v [N, Hkv, D]; N caches. Gives (out, refusals); or None as floats.h says, where an unusable
// number refuses its own row only.
nb::object step_batch(const wdt_head &head, nb::list caches, nb::handle q, nb::handle k, nb::handle v, nb::object out,
                      nb::handle threads) {
    const auto count = static_cast<Py_ssize_t>(caches.size());
    const int wanted = threads_of(threads);
    const Floats query(q), key(k), value(v);
    if (!wanted || !query.is({count, head.q_heads, head.head_dim}) || !key.is({count, head.kv_heads, head.head_dim}) ||
        !value.is({count, head.kv_heads, head.head_dim}) || !are_caches(caches)) {
        return nb::none();
    }
    const Result result(std::move(out), query, {&key, &value});
    if (!result.usable) {
        return nb::none();
    }
    std::vector<wdt_status> status(caches.size(), WDT_OK);
    const Tracks tracks(caches);
    const Batch batch{head, tracks, query.data(), key.data(), value.data(), result.floats.data(), status.data()};
    {
        nb::gil_scoped_release release;
        Tasks runs((count + POSITIONS_A_TASK - 1) / POSITIONS_A_TASK);
        on_threads(useful_tasks(wanted, count), [&](int) {
            runs.take([&](ptrdiff_t run) {
                const ptrdiff_t begin = run * POSITIONS_A_TASK, end = std::min(begin + POSITIONS_A_TASK, count);
                for (ptrdiff_t i = begin; i < end; i++) {
                    if (i + 1 < end) {
                        batch.prefetch(static_cast<size_t>(i + 1));
                    }
                    batch.step(static_cast<size_t>(i));
                }
            });
        });
    }
    return nb::make_tuple(result.array, refusals(status, tracks));
}

} // namespace

void bind_step(nb::module_ &m) {
    const nb::arg own;
    const auto any = any_object();
    m.def("step", &step, own, own, any, any, any, any, any);
    m.def("step_batch", &step_batch, own, own, any, any, any, any, any);
}
