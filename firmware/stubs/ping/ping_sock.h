/* A stub to compile firmware/ without ESP-IDF: what is used of <ping/ping_sock.h>, and nothing behind it. */
#ifndef STUB_PING_PING_SOCK_H
#define STUB_PING_PING_SOCK_H

#include <stdint.h>

#include "esp_err.h"
#include "lwip/ip_addr.h"

typedef void *esp_ping_handle_t;
typedef struct {
    void *cb_args;
    void (*on_ping_success)(esp_ping_handle_t handle, void *args);
} esp_ping_callbacks_t;
typedef struct {
    uint32_t count, interval_ms, timeout_ms;
    ip_addr_t target_addr;
    uint32_t task_prio;
} esp_ping_config_t;
#define ESP_PING_DEFAULT_CONFIG() {.count = 5, .interval_ms = 1000, .timeout_ms = 1000, .task_prio = 2}
#define ESP_PING_COUNT_INFINITE 0

esp_err_t esp_ping_new_session(const esp_ping_config_t *config, const esp_ping_callbacks_t *cbs,
                               esp_ping_handle_t *handle);
esp_err_t esp_ping_start(esp_ping_handle_t handle);
esp_err_t esp_ping_stop(esp_ping_handle_t handle);
esp_err_t esp_ping_delete_session(esp_ping_handle_t handle);

#endif
