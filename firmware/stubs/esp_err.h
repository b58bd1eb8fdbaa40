/* A stub to compile firmware/ without ESP-IDF: what is used of <esp_err.h>, and nothing behind it. */
#ifndef STUB_ESP_ERR_H
#define STUB_ESP_ERR_H

#include <stdlib.h>

#include "../host/include/esp_err.h"

#define ESP_ERR_NVS_NO_FREE_PAGES 0x110D
#define ESP_ERR_NVS_NEW_VERSION_FOUND 0x1110
#define ESP_ERROR_CHECK(call) \
    do {                      \
        if ((call) != ESP_OK) \
            abort();          \
    } while (0)

#endif
