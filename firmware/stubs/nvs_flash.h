/* A stub to compile firmware/ without ESP-IDF: what is used of <nvs_flash.h>, and nothing behind it. */
#ifndef STUB_NVS_FLASH_H
#define STUB_NVS_FLASH_H

#include "esp_err.h"

esp_err_t nvs_flash_init(void);
esp_err_t nvs_flash_erase(void);

#endif
