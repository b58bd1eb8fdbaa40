/* A stub to compile firmware/ without ESP-IDF: what is used of <esp_timer.h>, and nothing behind it. */
#ifndef STUB_ESP_TIMER_H
#define STUB_ESP_TIMER_H

#include <stdint.h>

int64_t esp_timer_get_time(void); /* microseconds since start */

#endif
