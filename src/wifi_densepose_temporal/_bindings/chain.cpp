// The feature chain: wdt_chain.h, a block of packets a call.
// csi/features.py checks the arguments, so that std::invalid_argument here means a mistake in this package.
#include "bindings.h"

#include <cstring>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include <nanobind/stl/optional.h>

#include "wdt_chain.h"

using namespace nb::literals;

namespace {

using Index = nb::ndarray<const int16_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Times = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// F of parameters that the rule passes.
uint32_t features_of(const wdt_chain_params &params)
{
    const char *broken = wdt_chain_params_rule(&params);
    if (broken != nullptr) {
        throw std::invalid_argument(broken);
    }
    return wdt_chain_features(&params);
}

struct Output {
    std::vector<float> frames; // [frame, F]
    std::vector<int64_t> times_us;
    std::vector<uint8_t> held;
};

struct Chain {
    size_t antennas, subcarriers, frame_dim;
    Memory memory;
    wdt_chain *chain = nullptr;
    std::vector<float> frame;     // [F]
    Busy busy;

    Chain(const wdt_chain_params &params, uint32_t antennas, uint32_t subcarriers, std::optional<Index> ofdm_index)
        : antennas(antennas), subcarriers(subcarriers), frame_dim(features_of(params)),
          memory(Memory::zeroed(wdt_chain_bytes(&params, antennas, subcarriers))), frame(frame_dim)
    {
        if (ofdm_index && ofdm_index->shape(0) != subcarriers) {
            throw std::invalid_argument("ofdm_index needs one entry per subcarrier");
        }
        if (wdt_chain_init(memory.data.get(), memory.bytes, &params, antennas, subcarriers,
                           ofdm_index ? ofdm_index->data() : nullptr, &chain) != WDT_CHAIN_OK) {
            throw std::invalid_argument("the core refuses this chain");
        }
    }

    void check(size_t times, size_t packets, size_t rows, size_t columns) const
    {
        if (times != packets || rows != antennas || columns != subcarriers) {
            throw std::invalid_argument("packets must be [n, antennas, subcarriers] with n times");
        }
    }

    void drain(Output &out)
    {
        int64_t time_us;
        uint8_t held;
        while (wdt_chain_next(chain, frame.data(), &time_us, &held) == WDT_CHAIN_FRAME) {
            out.frames.insert(out.frames.end(), frame.begin(), frame.end());
            out.times_us.push_back(time_us);
            out.held.push_back(held);
        }
    }

    // Runs `work` without the GIL; (frames, times_us, held, skipped, late), the last two of this call alone.
    // Where the frames do not fit into memory, the chain is put back as it was: it is one flat block.
    template <typename Work> nb::tuple collect(Work work)
    {
        Claim claim(busy);
        const auto *bytes = static_cast<const uint8_t *>(memory.data.get());
        const std::vector<uint8_t> before(bytes, bytes + memory.bytes);
        const uint64_t skipped = wdt_chain_skipped(chain), late = wdt_chain_late(chain);
        Output out;
        try {
            nb::gil_scoped_release release;
            work(out);
        } catch (const std::bad_alloc &) {
            std::memcpy(memory.data.get(), before.data(), before.size());
            throw;
        }
        const size_t n = out.times_us.size();
        return nb::make_tuple(owned(std::move(out.frames), {n, frame_dim}), owned(std::move(out.times_us), {n}),
                              owned(std::move(out.held), {n}), wdt_chain_skipped(chain) - skipped,
                              wdt_chain_late(chain) - late);
    }

    nb::tuple push(Times t_us, In<3> packets)
    {
        check(t_us.shape(0), packets.shape(0), packets.shape(1), packets.shape(2));
        return collect([&](Output &out) {
            for (size_t i = 0; i < t_us.shape(0); i++) {
                wdt_chain_push(chain, t_us.data()[i], packets.data() + i * antennas * subcarriers);
                drain(out);
            }
        });
    }

    nb::tuple push_iq(Times t_us, In<4> packets)
    {
        check(t_us.shape(0), packets.shape(0), packets.shape(1), packets.shape(2));
        if (packets.shape(3) != 2) {
            throw std::invalid_argument("I/Q packets must be [n, antennas, subcarriers, 2]");
        }
        return collect([&](Output &out) {
            for (size_t i = 0; i < t_us.shape(0); i++) {
                wdt_chain_push_iq(chain, t_us.data()[i], packets.data() + 2 * i * antennas * subcarriers);
                drain(out);
            }
        });
    }

    nb::tuple flush()
    {
        return collect([&](Output &out) {
            wdt_chain_flush(chain);
            drain(out);
        });
    }
};

// The parameters as one dictionary, so that a field is added in wdt_chain.h alone. Version 2 has its parts in a list.
wdt_chain_params params_of(const nb::dict &words)
{
    wdt_chain_params params{};
#define WDT_CHAIN_READ(name) params.name = nb::cast<uint32_t>(words[#name]);
    WDT_CHAIN_FIELDS(WDT_CHAIN_READ)
    if (params.version == 1) {
        return params;
    }
    params.frame_bins = nb::cast<uint32_t>(words["frame_bins"]);
    params.hold = nb::cast<uint32_t>(words["hold"]);
    for (nb::handle item : nb::cast<nb::list>(words["parts"])) {
        const auto given = nb::cast<nb::dict>(item);
        if (params.n_parts == WDT_CHAIN_MAX_PARTS) {
            params.n_parts++; // which the rule refuses
            break;
        }
        wdt_chain_part &part = params.part[params.n_parts++];
#define WDT_PART_READ(name) part.name = nb::cast<uint32_t>(given[#name]);
        WDT_CHAIN_PART_FIELDS(WDT_PART_READ)
    }
    return params;
}

// None if there are fewer usable columns than bands.
nb::object assign_bands(std::optional<Index> ofdm_index, uint32_t count, uint32_t bands)
{
    if (ofdm_index && ofdm_index->shape(0) != count) {
        throw std::invalid_argument("ofdm_index needs one entry per subcarrier");
    }
    std::vector<int16_t> band(count, -1);
    const auto status = wdt_chain_assign_bands(ofdm_index ? ofdm_index->data() : nullptr, count, bands, band.data());
    return status == WDT_CHAIN_OK ? owned(std::move(band), {size_t{count}}) : nb::none();
}

} // namespace

nb::dict chain_words(const wdt_chain_params &params)
{
    nb::dict words;
#define WDT_CHAIN_WRITE(name) words[#name] = params.name;
    WDT_CHAIN_FIELDS(WDT_CHAIN_WRITE)
    if (params.version == 1) {
        return words;
    }
    nb::list parts;
    for (uint32_t p = 0; p < params.n_parts; p++) {
        nb::dict part;
#define WDT_PART_WRITE(name) part[#name] = params.part[p].name;
        WDT_CHAIN_PART_FIELDS(WDT_PART_WRITE)
        parts.append(part);
    }
    words["frame_bins"] = params.frame_bins;
    words["hold"] = params.hold;
    words["parts"] = parts;
    return words;
}

void bind_chain(nb::module_ &m)
{
    m.attr("CHAIN_UNUSED") = int{WDT_CHAIN_UNUSED};
    m.attr("CHAIN_MAX_BANDS") = WDT_CHAIN_MAX_BANDS;
    m.attr("CHAIN_MAX_ANTENNAS") = WDT_CHAIN_MAX_ANTENNAS;
    m.attr("CHAIN_MAX_SUBCARRIERS") = WDT_CHAIN_MAX_SUBCARRIERS;
    m.attr("CHAIN_MAX_TIME_US") = WDT_CHAIN_MAX_TIME_US;
    m.attr("CHAIN_PARTS") = nb::make_tuple("level", "motion", "quadrature");
    m.attr("CHAIN_SO_FAR") = WDT_CHAIN_SO_FAR;
    static_assert(WDT_PART_KINDS == 3, "a name for each kind of part");
    nb::list part_fields;
#define WDT_PART_NAME(name) part_fields.append(#name);
    WDT_CHAIN_PART_FIELDS(WDT_PART_NAME)
    m.attr("CHAIN_PART_FIELDS") = part_fields;
    m.def("chain_defaults", [] { return chain_words(wdt_chain_params_default()); });
    m.def("chain_features", [](const nb::dict &words) {
        return features_of(params_of(words));
    });
    m.def("chain_rule", [](const nb::dict &words) {
        const wdt_chain_params params = params_of(words);
        return wdt_chain_params_rule(&params);
    });
    m.def("chain_assign_bands", &assign_bands, "ofdm_index"_a.none(), "count"_a, "bands"_a);

    nb::class_<Chain>(m, "Chain")
        .def("__init__",
             [](Chain *self, const nb::dict &words, uint32_t antennas, uint32_t subcarriers,
                std::optional<Index> ofdm_index) {
                 new (self) Chain(params_of(words), antennas, subcarriers, std::move(ofdm_index));
             },
             "words"_a, "antennas"_a, "subcarriers"_a, "ofdm_index"_a.none())
        .def("push", &Chain::push, "t_us"_a, "amplitude"_a)
        .def("push_iq", &Chain::push_iq, "t_us"_a, "iq"_a)
        .def("flush", &Chain::flush);
}
