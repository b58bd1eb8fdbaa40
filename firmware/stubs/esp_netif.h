/* A stub to compile firmware/ without ESP-IDF: what is used of <esp_netif.h>, and nothing behind it. */
#ifndef STUB_ESP_NETIF_H
#define STUB_ESP_NETIF_H

#include <stdint.h>

#include "esp_err.h"
#include "esp_event.h"

typedef struct {
    uint32_t addr;
} esp_ip4_addr_t;
typedef struct {
    esp_ip4_addr_t ip, netmask, gw;
} esp_netif_ip_info_t;
typedef struct esp_netif_obj esp_netif_t;
typedef struct {
    esp_netif_t *esp_netif;
    esp_netif_ip_info_t ip_info;
    int ip_changed;
} ip_event_got_ip_t;
enum { IP_EVENT_STA_GOT_IP };
extern esp_event_base_t const IP_EVENT;

esp_err_t esp_netif_init(void);
esp_netif_t *esp_netif_create_default_wifi_sta(void);

#endif
