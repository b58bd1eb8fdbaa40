/* network.h by ESP-IDF's station, ping and socket calls, of version 5.1 and later. */
#include "network.h"

#include "sdkconfig.h"

#if CONFIG_SOC_WIFI_HE_SUPPORT
#error "csi_node is for ESP32, S2, S3 and C3: a chip with WiFi 6 measures other fields, of other lengths"
#endif

#include <string.h>

#include "esp_event.h"
#include "esp_log.h"
#include "esp_netif.h"
#include "lwip/ip_addr.h"
#include "lwip/sockets.h"
#include "ping/ping_sock.h"
#include "temporal_task.h"

#define PING_TIMEOUT_MS 50 /* a lost answer keeps the next ping so long; after a second the features see a gap */

static const char *const TAG = "network";

static int udp = -1;
static struct sockaddr_in aggregator;
static uint8_t access_point[6]; /* written while CSI is off, as is `connection` */
static uint32_t connection;     /* how many there have been */
static network_csi_t on_csi;
static esp_ping_handle_t pings;

/* ------------------------------------------------------------------------------------------------------------- UDP */

/* The network stack comes first: a socket without its task ends in an assertion. */
esp_err_t network_open(void)
{
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    aggregator.sin_family = AF_INET;
    aggregator.sin_port = htons(CONFIG_CSI_NODE_PORT);
    if (inet_pton(AF_INET, CONFIG_CSI_NODE_AGGREGATOR, &aggregator.sin_addr) != 1) {
        ESP_LOGE(TAG, "%s is no IPv4 address", CONFIG_CSI_NODE_AGGREGATOR);
        return ESP_ERR_INVALID_ARG;
    }
    udp = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
    if (udp < 0) {
        ESP_LOGE(TAG, "no socket");
        return ESP_ERR_NO_MEM;
    }
    return ESP_OK;
}

esp_err_t network_send(const uint8_t *packet, size_t length, void *unused)
{
    (void)unused;
    const ssize_t sent =
        sendto(udp, packet, length, 0, (const struct sockaddr *)&aggregator, sizeof aggregator);
    return sent == (ssize_t)length ? ESP_OK : ESP_FAIL;
}

/* ------------------------------------------------------------------------------------------------------------- CSI */

/* In the WiFi task. Packets of other senders came another way through the room: a mixture would look like motion. */
static void receive_csi(void *unused, wifi_csi_info_t *info)
{
    (void)unused;
    if (info != NULL && info->buf != NULL && memcmp(info->mac, access_point, sizeof access_point) == 0) {
        on_csi(info, connection);
    }
}

/* The legacy training field alone: every packet has it, and the host's recordings are read for it. They were made with
 * the driver's filter over neighbouring subcarriers. 0 if the connection is lost already. */
static int start_csi(void)
{
    const wifi_csi_config_t config = {.lltf_en = true, .channel_filter_en = true};
    wifi_ap_record_t ap;
    const esp_err_t error = esp_wifi_sta_get_ap_info(&ap);
    if (error != ESP_OK) {
        ESP_LOGW(TAG, "no access point any more (0x%x)", (unsigned)error);
        return 0;
    }
    memcpy(access_point, ap.bssid, sizeof access_point);
    connection++;
    ESP_ERROR_CHECK(esp_wifi_set_csi_config(&config));
    ESP_ERROR_CHECK(esp_wifi_set_csi_rx_cb(receive_csi, NULL));
    ESP_ERROR_CHECK(esp_wifi_set_csi(true));
    return 1;
}

/* Each answer of the access point is a packet to measure. Pings go out while the head computes, too. */
static void start_pings(const ip_event_got_ip_t *got)
{
    esp_ping_config_t config = ESP_PING_DEFAULT_CONFIG();
    const esp_ping_callbacks_t none = {0};
    config.count = ESP_PING_COUNT_INFINITE;
    config.interval_ms = CONFIG_CSI_NODE_PING_MS;
    config.timeout_ms = PING_TIMEOUT_MS;
    config.task_prio = TEMPORAL_TASK_PRIORITY + 1;
    ip_addr_set_ip4_u32(&config.target_addr, got->ip_info.gw.addr);
    ESP_ERROR_CHECK(esp_ping_new_session(&config, &none, &pings));
    ESP_ERROR_CHECK(esp_ping_start(pings));
}

/* --------------------------------------------------------------------------------------------------------- station */

static void on_event(void *unused, esp_event_base_t base, int32_t id, void *data)
{
    (void)unused;
    if (base == WIFI_EVENT && id == WIFI_EVENT_STA_START) {
        ESP_ERROR_CHECK(esp_wifi_set_bandwidth(WIFI_IF_STA, WIFI_BW_HT20)); /* at 40 MHz buffers have other lengths */
        ESP_ERROR_CHECK(esp_wifi_connect());
    } else if (base == WIFI_EVENT && id == WIFI_EVENT_STA_DISCONNECTED) {
        ESP_LOGW(TAG, "disconnected");
        if (pings != NULL) {
            ESP_ERROR_CHECK(esp_wifi_set_csi(false));
            ESP_ERROR_CHECK(esp_ping_stop(pings));
            ESP_ERROR_CHECK(esp_ping_delete_session(pings));
            pings = NULL;
        }
        (void)esp_wifi_connect(); /* refused, it comes back as another of these events */
    } else if (base == IP_EVENT && id == IP_EVENT_STA_GOT_IP && pings == NULL) {
        if (start_csi()) {
            start_pings(data);
        }
    }
}

esp_err_t network_start(network_csi_t csi)
{
    const wifi_init_config_t init = WIFI_INIT_CONFIG_DEFAULT();
    wifi_config_t station = {.sta = {.ssid = CONFIG_CSI_NODE_WIFI_SSID, .password = CONFIG_CSI_NODE_WIFI_PASSWORD}};
    on_csi = csi;
    (void)esp_netif_create_default_wifi_sta();
    ESP_ERROR_CHECK(esp_wifi_init(&init));
    ESP_ERROR_CHECK(esp_event_handler_instance_register(WIFI_EVENT, ESP_EVENT_ANY_ID, on_event, NULL, NULL));
    ESP_ERROR_CHECK(esp_event_handler_instance_register(IP_EVENT, IP_EVENT_STA_GOT_IP, on_event, NULL, NULL));
    ESP_ERROR_CHECK(esp_wifi_set_mode(WIFI_MODE_STA));
    ESP_ERROR_CHECK(esp_wifi_set_config(WIFI_IF_STA, &station));
    ESP_ERROR_CHECK(esp_wifi_set_ps(WIFI_PS_NONE)); /* asleep, it would miss most packets */
    return esp_wifi_start();
}
