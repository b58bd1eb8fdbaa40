/* Reads a parsed blob as a model: which record says what, and that every size agrees with every other.
 * Tensors are pointed at where they lie, so the machine has to be little-endian, as the blob is. */
#include "wdt_model.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "inline.h"
#include "weights.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the weights of a .rvne blob are used in place, which needs a little-endian machine"
#endif

/* ------------------------------------------------------------------------------- payloads: words, then tensors */
typedef struct payload {
    const uint8_t *at;
    uint64_t left;
} payload;

static int take_words(payload *from, void *words, size_t bytes)
{
    if (from->left < bytes) {
        return 0;
    }
    memcpy(words, from->at, bytes);
    from->at += bytes;
    from->left -= bytes;
    return 1;
}

static float read_float(const uint8_t *at)
{
    float x;
    memcpy(&x, at, sizeof x);
    return x;
}

/* 1 if no number is NaN or beyond +-limit. */
static int all_within(const uint8_t *at, uint64_t count, int half, float limit)
{
    for (uint64_t j = 0; j < count; j++, at += wdt_number_bytes(half)) {
        const float x = half ? wdt_half_to_float((uint16_t)(at[0] | at[1] << 8)) : read_float(at);
        if (!(fabsf(x) <= limit)) {
            return 0;
        }
    }
    return 1;
}

NOT_INLINED static uint64_t tensor_bytes(int dtype, uint64_t count)
{
    return wdt_tensor_bytes(dtype, count);
}

/* 1 if no number of a tensor is NaN or beyond +-limit, and an int8 one is what the format says: no negative scale, and
 * zeros behind its numbers. */
NOT_INLINED static int is_valid(const uint8_t *tensor, int dtype, uint64_t count, float limit)
{
    if (dtype != WDT_INT8) {
        return all_within(tensor, count, dtype, limit);
    }
    const float scale = read_float(tensor);
    int valid = scale >= 0.0f && scale * 128.0f <= limit; /* neither holds for NaN */
    for (uint64_t j = sizeof scale + count; j < tensor_bytes(dtype, count); j++) {
        valid = valid && tensor[j] == 0;
    }
    return valid;
}

/* Points *data at `tensors` valid ones of `count` numbers each; zeros follow the last one up to a multiple of 4.
 * tensors * count < 2^49. */
NOT_INLINED static int take_tensors(payload *from, uint64_t tensors, uint64_t count, int dtype, float limit,
                                    const void **data)
{
    const uint64_t each = tensor_bytes(dtype, count), bytes = tensors * each, padded = (bytes + 3u) / 4u * 4u;
    if (bytes > from->left) {
        return 0;
    }
    for (uint64_t t = 0; t < tensors; t++) {
        if (!is_valid(from->at + t * each, dtype, count, limit)) {
            return 0;
        }
    }
    const uint64_t step = padded < from->left ? padded : from->left; /* the record itself is padded at its end */
    *data = from->at;
    from->at += step;
    from->left -= step;
    return 1;
}

/* A weight tensor, in the blob's dtype. */
static int take_weights(payload *from, const wdt_model *model, uint64_t count, const void **data)
{
    return take_tensors(from, 1, count, model->dtype, WDT_MAX_WEIGHT, data);
}

static int open_record(const wdt_rvne *blob, uint16_t tag, payload *from)
{
    wdt_record record;
    if (!wdt_record_find(blob, tag, &record)) {
        return 0;
    }
    from->at = record.payload;
    from->left = record.length;
    return 1;
}

/* --------------------------------------------------------------- one function a record; each returns NULL or why */
static const char *read_pattern(wdt_model *model, const wdt_rvne *blob)
{
    payload from;
    wdt_pattern_words words;
    wdt_head *const head = &model->head;
    if (!open_record(blob, WDT_RECORD_pattern, &from)) {
        return NULL;
    }
    if (!take_words(&from, &words, sizeof words) || words.n_global_tokens > WDT_MAX_GLOBAL_TOKENS ||
        from.left != words.n_global_tokens * sizeof(uint32_t)) {
        return "the pattern record's length does not match its fields";
    }
    if ((words.dense | words.log_stride | words.landmarks) > 1 || words.causal != 1 || words.norm > WDT_NORM_RMS) {
        return "the pattern record has a switch that is not 0 or 1, an unknown norm, or is not causal";
    }
    if (words.window > WDT_MAX_EXTENT || words.block_size > WDT_MAX_EXTENT) {
        return "the pattern record's window or block_size is above 2^30";
    }
    head->dense = (uint8_t)words.dense;
    head->window = (int32_t)words.window;
    head->block_size = (int32_t)words.block_size;
    head->log_stride = (uint8_t)words.log_stride;
    head->landmarks = (uint8_t)words.landmarks;
    head->n_global_tokens = (int32_t)words.n_global_tokens;
    /* One above 2^31 comes out negative, which the rule refuses. */
    memcpy(head->global_tokens, from.at, words.n_global_tokens * sizeof(uint32_t));
    model->norm = words.norm;
    return wdt_head_rule(head);
}

static const char *read_pooling(wdt_model *model, const wdt_rvne *blob)
{
    payload from;
    if (!open_record(blob, WDT_RECORD_pooling, &from)) {
        return NULL;
    }
    if (!take_words(&from, &model->pooling, sizeof model->pooling) || from.left != 0) {
        return "the pooling record's length does not match its fields";
    }
    const uint32_t frames = model->pooling.frames;
    const int last_n = model->pooling.kind == WDT_POOL_LAST_N;
    if (model->pooling.kind > WDT_POOL_MEAN_SPREAD || (last_n ? frames < 1 || frames > WDT_MAX_POOL_FRAMES : frames)) {
        return "the pooling record's kind is unknown, or its frames are not 1 to 65536 (0 for kinds other than last n)";
    }
    if (last_n && (uint64_t)frames * (uint64_t)model->width > WDT_MAX_POOL_FLOATS) {
        return "the pooling record asks for a ring of more than 4194304 numbers (frames * input_dim)";
    }
    model->pooled_dim = model->pooling.kind == WDT_POOL_MEAN_SPREAD ? 2 * model->width : model->width;
    return NULL;
}

static const char *read_input_projection(wdt_model *model, const wdt_rvne *blob)
{
    payload from;
    wdt_input_words words;
    if (!open_record(blob, WDT_RECORD_input_projection, &from)) {
        return NULL;
    }
    if (!take_words(&from, &words, sizeof words) || words.features < 1 || words.features > UINT16_MAX ||
        !take_weights(&from, model, (uint64_t)words.features * (uint64_t)model->width, &model->input_weight) ||
        !take_weights(&from, model, (uint64_t)model->width, &model->input_bias) || from.left != 0) {
        return "the input projection record is not [features, input_dim] weights and [input_dim] biases within +-10^6";
    }
    model->features = (int32_t)words.features;
    return NULL;
}

static const char *read_feature_scale(wdt_model *model, const wdt_rvne *blob)
{
    payload from;
    const void *mean, *scale;
    if (!open_record(blob, WDT_RECORD_feature_scale, &from)) {
        return NULL;
    }
    if (!take_tensors(&from, 1, (uint64_t)model->features, WDT_FLOAT32, FLT_MAX, &mean) ||
        !take_tensors(&from, 1, (uint64_t)model->features, WDT_FLOAT32, FLT_MAX, &scale) || from.left != 0) {
        return "the feature scale record is not one finite float32 mean and scale per feature";
    }
    model->feature_mean = mean;
    model->feature_scale = scale;
    return NULL;
}

static const char *read_feed_forward(wdt_model *model, const wdt_rvne *blob)
{
    payload from;
    wdt_feed_forward_words words;
    if (!open_record(blob, WDT_RECORD_feed_forward, &from)) {
        return NULL;
    }
    if (!take_words(&from, &words, sizeof words) || words.hidden < 1 || words.hidden > UINT16_MAX ||
        words.activation > WDT_ACT_SILU) {
        return "the feed-forward record's hidden size is not 1 to 65535, or its activation is unknown";
    }
    const uint64_t size = (uint64_t)words.hidden * (uint64_t)model->width, tensors = 2 * (uint64_t)model->layers;
    if (!take_tensors(&from, tensors, size, model->dtype, WDT_MAX_WEIGHT, &model->feed_forward) || from.left != 0) {
        return "the feed-forward record is not W1 [input_dim, hidden] and W2 [hidden, input_dim] per layer, within +-10^6";
    }
    model->hidden = (int32_t)words.hidden;
    model->activation = words.activation;
    return NULL;
}

static const char *read_embedding(wdt_model *model, const wdt_rvne *blob)
{
    payload from;
    wdt_embedding_words words;
    model->embedding_dim = model->pooled_dim;
    if (!open_record(blob, WDT_RECORD_embedding_projection, &from)) {
        return NULL;
    }
    if (!take_words(&from, &words, sizeof words) || words.input != (uint32_t)model->pooled_dim ||
        words.hidden > UINT16_MAX || words.output < 1 || words.output > UINT16_MAX) {
        return "the embedding record's sizes are not [pooled_dim, hidden, 1 to 65535]";
    }
    const uint64_t sizes[3] = {words.input, words.hidden ? words.hidden : words.output, words.output};
    for (int affine = 0; affine < (words.hidden ? 2 : 1); affine++) {
        const uint64_t in = sizes[affine], out = sizes[affine + 1];
        if (!take_weights(&from, model, in * out, &model->embedding_weight[affine]) ||
            !take_weights(&from, model, out, &model->embedding_bias[affine])) {
            return "the embedding record is too short for its sizes, or holds NaN or a number beyond +-10^6";
        }
    }
    model->embedding_hidden = (int32_t)words.hidden;
    model->embedding_dim = (int32_t)words.output;
    return from.left ? "the embedding record is too long for its sizes" : NULL;
}

/* What version 2 goes on with. */
static int take_parts(payload *from, wdt_chain_params *chain)
{
    const size_t counts = offsetof(wdt_chain_params, part) - offsetof(wdt_chain_params, frame_bins);
    return take_words(from, &chain->frame_bins, counts) && chain->n_parts <= WDT_CHAIN_MAX_PARTS &&
           take_words(from, chain->part, chain->n_parts * sizeof *chain->part);
}

static const char *read_chain(wdt_model *model, const wdt_rvne *blob)
{
    payload from;
    if (!open_record(blob, WDT_RECORD_feature_chain, &from)) {
        return NULL;
    }
    wdt_chain_params *const chain = &model->chain;
    memset(chain, 0, sizeof *chain);
    if (!take_words(&from, chain, offsetof(wdt_chain_params, frame_bins)) ||
        (chain->version == 2 && !take_parts(&from, chain)) || from.left != 0) {
        return "the feature chain record's length does not match its fields";
    }
    const char *const broken = wdt_chain_params_rule(chain);
    if (!broken && wdt_chain_features(chain) != (uint32_t)model->features) {
        return "the feature chain record makes frames of another length than the model takes";
    }
    model->has_chain = 1;
    return broken;
}

static const char *read_classifier_bias(wdt_model *model, const wdt_rvne *blob)
{
    payload from;
    if (!open_record(blob, WDT_RECORD_classifier_bias, &from)) {
        return NULL;
    }
    if (!take_weights(&from, model, (uint64_t)model->classes, &model->classifier_bias) || from.left != 0) {
        return "the classifier bias record is not one number per class within +-10^6";
    }
    return NULL;
}

/* The weights must be exactly those that the header and the pooling ask for. */
static const char *read_weights(wdt_model *model, const wdt_rvne *blob)
{
    const uint64_t d = (uint64_t)model->width, D = (uint64_t)model->head.head_dim;
    const uint64_t query = d * D * (uint64_t)model->head.q_heads, key = d * D * (uint64_t)model->head.kv_heads;
    const uint64_t sizes[4] = {query, key, key, query}; /* Wq, Wk, Wv, Wo */
    const uint64_t classes = (uint64_t)model->pooled_dim * (uint64_t)model->classes;
    const uint64_t last = tensor_bytes(model->dtype, classes), given = blob->header.weights_len;
    const uint64_t layer = 2 * (tensor_bytes(model->dtype, query) + tensor_bytes(model->dtype, key)); /* < 2^54 */
    if (layer > given || (uint64_t)model->layers * layer + last != given) {
        return "the number of weights is not the one that the header's sizes ask for";
    }
    const uint8_t *tensor = blob->weights;
    int valid = 1;
    for (int32_t t = 0; t < 4 * model->layers && valid; t++) {
        valid = is_valid(tensor, model->dtype, sizes[t % 4], WDT_MAX_WEIGHT);
        tensor += tensor_bytes(model->dtype, sizes[t % 4]);
    }
    model->layer_bytes = (ptrdiff_t)layer;
    model->classifier = blob->weights + (uint64_t)model->layers * layer;
    return valid && is_valid(model->classifier, model->dtype, classes, WDT_MAX_WEIGHT)
               ? NULL
               : "the weights hold NaN, infinity or a number beyond +-10^6, or an int8 tensor is none";
}

/* Keys and values are products of norm(h), so a cache may hold that instead, and the query and the weighted sum go
 * through Wk and Wv: less to keep and less to multiply where d <= D and there is one pair of them for all heads. */
static void choose_cached(wdt_model *model)
{
    model->cached = model->head;
    model->absorbed = model->head.kv_heads == 1 && model->width <= model->head.head_dim;
    if (model->absorbed) {
        model->cached.head_dim = model->width;
    }
}

wdt_status wdt_model_init(wdt_model *model, const wdt_rvne *blob, const char **why)
{
    static const char *(*const readers[])(wdt_model *, const wdt_rvne *) = {
        read_pattern,      read_pooling,   read_input_projection, read_feature_scale,
        read_feed_forward, read_embedding, read_classifier_bias,  read_chain,           read_weights,
    };
    const wdt_rvne_header *const header = &blob->header;
    wdt_model loaded = {
        .head = wdt_head_default(),
        .features = header->input_dim,
        .width = header->input_dim,
        .layers = header->n_layers,
        .classes = header->n_classes,
        .pooled_dim = header->input_dim,
        .dtype = wdt_rvne_dtype(header),
        .norm = WDT_NORM_NONE,
        .pooling = {WDT_POOL_MEAN, 0},
        .chain = wdt_chain_params_default(),
        .weights = blob->weights,
    };
    loaded.head.q_heads = header->n_q_heads;
    loaded.head.kv_heads = header->n_kv_heads;
    loaded.head.head_dim = header->head_dim;
    if ((uintptr_t)blob->weights % 4 != 0) {
        return WDT_E_ALIGNMENT;
    }
    for (size_t r = 0; r < sizeof readers / sizeof *readers; r++) {
        const char *const reason = readers[r](&loaded, blob);
        if (reason) {
            if (why) {
                *why = reason;
            }
            return WDT_E_MODEL;
        }
    }
    choose_cached(&loaded);
    *model = loaded;
    return WDT_OK;
}
