/* The head on frames from a file: prints what ruv_temporal_init says of each blob, or writes the logits as of every frame.
 *
 *   run_frames codes BLOB...
 *   run_frames window|session float32|float16 WINDOW_LEN KERNELS BLOB < frames > logits      KERNELS "": the build's own */
#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "ruv_temporal.h"
#include "wdt_kernels.h"
#include "wdt_model.h"

static _Alignas(8) uint8_t bytes[BLOB_MAX];

static int print_codes(int count, char **path)
{
    for (int i = 0; i < count; i++) {
        ruv_temporal_ctx_t *ctx = NULL;
        const size_t length = read_blob(path[i], bytes);
        const esp_err_t error = ruv_temporal_init(bytes, length, 16, 32, 4, &ctx);
        CHECK((error == ESP_OK) == (ctx != NULL));
        printf("%d\n", error);
        ruv_temporal_destroy(ctx);
    }
    return 0;
}

int main(int count, char **argument)
{
    CHECK(count > 2);
    if (strcmp(argument[1], "codes") == 0) {
        return print_codes(count - 2, argument + 2);
    }
    CHECK(count == 6);
    const ruv_temporal_options_t options = {
        strcmp(argument[1], "session") == 0 ? RUV_TEMPORAL_SESSION : RUV_TEMPORAL_WINDOW,
        strcmp(argument[2], "float16") == 0};
    const uint32_t window = (uint32_t)strtoul(argument[3], NULL, 10);
    CHECK(argument[4][0] == '\0' || wdt_use_instruction_set(argument[4]) == WDT_OK);
    const size_t length = read_blob(argument[5], bytes);
    wdt_rvne blob;
    wdt_model model;
    CHECK(wdt_rvne_parse(bytes, length, &blob) == WDT_OK && wdt_model_init(&model, &blob, NULL) == WDT_OK);
    const uint32_t F = (uint32_t)model.features, C = (uint32_t)model.classes;
    ruv_temporal_ctx_t *ctx = NULL;
    CHECK(ruv_temporal_init_with(bytes, length, F, window, C, &options, &ctx) == ESP_OK);
    float frame[256], logits[256];
    CHECK(F <= 256 && C <= 256);
    while (fread(frame, sizeof *frame, F, stdin) == F) {
        CHECK(ruv_temporal_push(ctx, frame) == ESP_OK && ruv_temporal_classify(ctx, logits, C) == ESP_OK);
        CHECK(fwrite(logits, sizeof *logits, C, stdout) == C);
    }
    ruv_temporal_destroy(ctx);
    return 0;
}
