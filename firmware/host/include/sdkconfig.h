/* For builds on a host: what menuconfig would write with the defaults of components/ruv_temporal/Kconfig, and the head
 * switched on. tests/firmware/test_esp_idf.py holds the two equal. On a chip, the project's own is found instead. */
#ifndef SDKCONFIG_H
#define SDKCONFIG_H

#define CONFIG_CSI_TEMPORAL_HEAD_ENABLED 1
#define CONFIG_TEMPORAL_INPUT_DIM 16
#define CONFIG_TEMPORAL_WINDOW_LEN 256
#define CONFIG_TEMPORAL_N_CLASSES 4
#define CONFIG_TEMPORAL_CLASSIFY_PERIOD_MS 1000
#define CONFIG_TEMPORAL_MODE_WINDOW 1
/* CONFIG_TEMPORAL_MODE_SESSION and CONFIG_TEMPORAL_CACHE_FLOAT16 are not set. */

#endif
