/* A stub to compile firmware/ without ESP-IDF: what is used of <esp_wifi.h>, and nothing behind it. */
#ifndef STUB_ESP_WIFI_H
#define STUB_ESP_WIFI_H

#include <stdbool.h>
#include <stdint.h>

#include "esp_err.h"
#include "esp_event.h"

typedef struct {
    int stub;
} wifi_init_config_t;
#define WIFI_INIT_CONFIG_DEFAULT() {0}

typedef enum { WIFI_MODE_STA = 1 } wifi_mode_t;
typedef enum { WIFI_IF_STA } wifi_interface_t;
typedef enum { WIFI_PS_NONE } wifi_ps_type_t;
typedef enum { WIFI_BW_HT20 = 1 } wifi_bandwidth_t;
enum { WIFI_EVENT_STA_START = 2, WIFI_EVENT_STA_DISCONNECTED = 5 };
extern esp_event_base_t const WIFI_EVENT;

typedef union {
    struct {
        uint8_t ssid[32], password[64];
    } sta;
} wifi_config_t;
typedef struct {
    uint8_t bssid[6];
} wifi_ap_record_t;

typedef struct {
    bool lltf_en, htltf_en, stbc_htltf2_en, ltf_merge_en, channel_filter_en, manu_scale;
    uint8_t shift;
    bool dump_ack_en;
} wifi_csi_config_t;
typedef struct {
    signed rssi : 8;
    unsigned timestamp : 32; /* microseconds */
} wifi_pkt_rx_ctrl_t;
typedef struct {
    wifi_pkt_rx_ctrl_t rx_ctrl;
    uint8_t mac[6], dmac[6];
    bool first_word_invalid;
    int8_t *buf;
    uint16_t len;
} wifi_csi_info_t;
typedef void (*wifi_csi_cb_t)(void *ctx, wifi_csi_info_t *data);

esp_err_t esp_wifi_init(const wifi_init_config_t *config);
esp_err_t esp_wifi_set_mode(wifi_mode_t mode);
esp_err_t esp_wifi_set_config(wifi_interface_t interface, wifi_config_t *conf);
esp_err_t esp_wifi_set_ps(wifi_ps_type_t type);
esp_err_t esp_wifi_start(void);
esp_err_t esp_wifi_set_bandwidth(wifi_interface_t interface, wifi_bandwidth_t bandwidth);
esp_err_t esp_wifi_connect(void);
esp_err_t esp_wifi_sta_get_ap_info(wifi_ap_record_t *ap_info);
esp_err_t esp_wifi_set_csi_config(const wifi_csi_config_t *config);
esp_err_t esp_wifi_set_csi_rx_cb(wifi_csi_cb_t cb, void *ctx);
esp_err_t esp_wifi_set_csi(bool en);

#endif
