/* The example's app_main against a pretended ESP-IDF: what it calls is checked in the order in which the real one would
 * stumble, events and packets come when it waits. Its log goes to stdout, which tests/firmware/test_example.py reads.
 *
 *   test_node SCENARIO BLOB
 *
 * The tasks run on POSIX threads; `csi` in turn with this one, whenever it has buffers. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "blob.h"
#include "esp_log.h"
#include "esp_netif.h"
#include "esp_partition.h"
#include "esp_timer.h"
#include "esp_wifi.h"
#include "freertos/queue.h"
#include "freertos/task.h"
#include "lwip/sockets.h"
#include "nvs_flash.h"
#include "ping/ping_sock.h"
#include "sdkconfig.h"
#include "temporal_task.h"

void app_main(void);

esp_event_base_t const WIFI_EVENT = "wifi", IP_EVENT = "ip";

static const char *scenario;
static jmp_buf out;
static int64_t now_us = 5000000;

void stub_log(char level, const char *tag, const char *format, ...)
{
    va_list arguments;
    printf("%c %s: ", level, tag);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

int64_t esp_timer_get_time(void) { return now_us; }

/* ----------------------------------------------------------------------------------------------------------- storage */

static _Alignas(8) uint8_t flash[BLOB_MAX];
static const esp_partition_t partition = {.size = BLOB_MAX};

esp_err_t nvs_flash_init(void) { return ESP_OK; }
esp_err_t nvs_flash_erase(void) { return ESP_OK; }

const esp_partition_t *esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t subtype,
                                                const char *label)
{
    CHECK(type == ESP_PARTITION_TYPE_DATA && subtype == ESP_PARTITION_SUBTYPE_ANY && strcmp(label, "model") == 0);
    return strcmp(scenario, "no_partition") == 0 ? NULL : &partition;
}

esp_err_t esp_partition_mmap(const esp_partition_t *of, size_t offset, size_t size, esp_partition_mmap_memory_t memory,
                             const void **out_ptr, esp_partition_mmap_handle_t *out_handle)
{
    CHECK(of == &partition && offset == 0 && size == partition.size && memory == ESP_PARTITION_MMAP_DATA);
    *out_ptr = flash;
    *out_handle = 1;
    return strcmp(scenario, "no_map") == 0 ? ESP_ERR_NO_MEM : ESP_OK;
}

/* ------------------------------------------------------------------------------------------- network: order of calls */

static int netif, loop, station, wifi, mode, configured, started, handlers, wide = 1, connects;
static int csi, pinging, csi_configured, has_ap = 1;
static esp_event_handler_t on_event;
static wifi_csi_cb_t on_csi;
static esp_ping_config_t ping;

esp_err_t esp_netif_init(void) { return netif++ == 0 ? ESP_OK : ESP_FAIL; }

esp_err_t esp_event_loop_create_default(void) { return loop++ == 0 ? ESP_OK : ESP_ERR_INVALID_STATE; }

int socket(int domain, int type, int protocol)
{
    CHECK(netif); /* lwIP asserts: its task is not there */
    CHECK(domain == AF_INET && type == SOCK_DGRAM && protocol == IPPROTO_UDP);
    return 3;
}

ssize_t sendto(int s, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t tolen)
{
    (void)data, (void)flags;
    CHECK(s == 3 && size == 40 && to != NULL && tolen == sizeof(struct sockaddr_in));
    return (ssize_t)size;
}

int inet_pton(int af, const char *src, void *dst)
{
    (void)dst;
    CHECK(af == AF_INET && strcmp(src, CONFIG_CSI_NODE_AGGREGATOR) == 0);
    return strcmp(scenario, "no_address") != 0;
}

uint16_t htons(uint16_t x) { return (uint16_t)(x << 8 | x >> 8); }

esp_netif_t *esp_netif_create_default_wifi_sta(void)
{
    static char any;
    CHECK(netif && loop); /* registers handlers at the default loop */
    station = 1;
    return (esp_netif_t *)(void *)&any;
}

esp_err_t esp_wifi_init(const wifi_init_config_t *config)
{
    (void)config;
    CHECK(loop); /* posts its events there */
    wifi = 1;
    return ESP_OK;
}

esp_err_t esp_event_handler_instance_register(esp_event_base_t base, int32_t id, esp_event_handler_t handler, void *arg,
                                              esp_event_handler_instance_t *instance)
{
    (void)base, (void)id, (void)arg, (void)instance;
    CHECK(loop && !started); /* later, the first event would be missed */
    on_event = handler;
    handlers++;
    return ESP_OK;
}

esp_err_t esp_wifi_set_mode(wifi_mode_t set)
{
    mode = set == WIFI_MODE_STA;
    return wifi ? ESP_OK : ESP_FAIL;
}

esp_err_t esp_wifi_set_config(wifi_interface_t interface, wifi_config_t *conf)
{
    CHECK(interface == WIFI_IF_STA && strcmp((const char *)conf->sta.ssid, CONFIG_CSI_NODE_WIFI_SSID) == 0);
    configured = mode;
    return mode ? ESP_OK : ESP_FAIL;
}

esp_err_t esp_wifi_set_ps(wifi_ps_type_t type) { return wifi && type == WIFI_PS_NONE ? ESP_OK : ESP_FAIL; }

esp_err_t esp_wifi_start(void)
{
    CHECK(station && configured && handlers == 2);
    started = 1;
    return ESP_OK;
}

esp_err_t esp_wifi_set_bandwidth(wifi_interface_t interface, wifi_bandwidth_t bandwidth)
{
    CHECK(started && connects == 0); /* a connection keeps the width that it was made with */
    wide = !(interface == WIFI_IF_STA && bandwidth == WIFI_BW_HT20);
    return ESP_OK;
}

esp_err_t esp_wifi_connect(void)
{
    CHECK(started && !wide);
    connects++;
    return ESP_OK;
}

esp_err_t esp_wifi_sta_get_ap_info(wifi_ap_record_t *ap)
{
    *ap = (wifi_ap_record_t){{1, 2, 3, 4, 5, 6}};
    return has_ap ? ESP_OK : ESP_FAIL;
}

esp_err_t esp_wifi_set_csi_config(const wifi_csi_config_t *config)
{
    CHECK(started && config->lltf_en && !config->htltf_en && !config->stbc_htltf2_en);
    csi_configured = 1;
    return ESP_OK;
}

esp_err_t esp_wifi_set_csi_rx_cb(wifi_csi_cb_t cb, void *ctx)
{
    CHECK(ctx == NULL);
    on_csi = cb;
    return ESP_OK;
}

esp_err_t esp_wifi_set_csi(bool on)
{
    CHECK(csi_configured && on_csi != NULL);
    csi = on;
    return ESP_OK;
}

esp_err_t esp_ping_new_session(const esp_ping_config_t *config, const esp_ping_callbacks_t *cbs,
                               esp_ping_handle_t *handle)
{
    CHECK(cbs != NULL && !pinging);
    ping = *config;
    *handle = &ping;
    return ESP_OK;
}

esp_err_t esp_ping_start(esp_ping_handle_t handle) { return pinging = 1, handle == &ping ? ESP_OK : ESP_FAIL; }
esp_err_t esp_ping_stop(esp_ping_handle_t handle) { return pinging = 0, handle == &ping ? ESP_OK : ESP_FAIL; }
esp_err_t esp_ping_delete_session(esp_ping_handle_t handle) { return handle == &ping ? ESP_OK : ESP_FAIL; }

/* ------------------------------------------------------------------------------------------------- one queue, one task */

static uint8_t *items; /* what the queue holds, oldest first */
static size_t item_bytes, length, held;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* of the queue and what follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int csi_runs;

QueueHandle_t xQueueCreateStatic(UBaseType_t count, UBaseType_t item_size, uint8_t *storage, StaticQueue_t *queue)
{
    items = storage;
    length = count;
    item_bytes = item_size;
    return (QueueHandle_t)(void *)queue;
}

BaseType_t xQueueSend(QueueHandle_t queue, const void *item, TickType_t ticks)
{
    CHECK(queue != NULL && ticks == 0); /* in the WiFi task, which must not wait */
    if (held == length) {
        return !pdTRUE;
    }
    memcpy(items + held++ * item_bytes, item, item_bytes);
    return pdTRUE;
}

BaseType_t xQueueReceive(QueueHandle_t queue, void *item, TickType_t ticks)
{
    CHECK(queue != NULL && ticks == portMAX_DELAY);
    pthread_mutex_lock(&turn);
    while (!csi_runs || held == 0) {
        csi_runs = 0;
        pthread_cond_broadcast(&changed);
        pthread_cond_wait(&changed, &turn);
    }
    memcpy(item, items, item_bytes);
    memmove(items, items + item_bytes, --held * item_bytes);
    pthread_mutex_unlock(&turn);
    return pdTRUE;
}

/* Until it has taken all that is queued, and waits for more. */
static void run_csi_task(void)
{
    pthread_mutex_lock(&turn);
    csi_runs = 1;
    pthread_cond_broadcast(&changed);
    while (csi_runs) {
        pthread_cond_wait(&changed, &turn);
    }
    pthread_mutex_unlock(&turn);
}

static TaskFunction_t csi_task;

static void *enter(void *unused)
{
    csi_task(unused);
    return NULL;
}

TaskHandle_t xTaskCreateStatic(TaskFunction_t run, const char *name, uint32_t stack_bytes, void *argument,
                               UBaseType_t priority, StackType_t *stack, StaticTask_t *task)
{
    (void)name, (void)task;
    CHECK(items != NULL && temporal_task_model() != NULL); /* what it uses is there before it runs */
    CHECK(stack != NULL && stack_bytes >= 4096 && argument == NULL && priority > TEMPORAL_TASK_PRIORITY);
    pthread_t thread;
    csi_task = run;
    CHECK(pthread_create(&thread, NULL, enter, NULL) == 0 && pthread_detach(thread) == 0);
    return NULL;
}

void vTaskDelete(TaskHandle_t task)
{
    (void)task;
    CHECK(!"a task ends");
}

static void event(esp_event_base_t base, int32_t id)
{
    ip_event_got_ip_t got = {.ip_info.gw.addr = 0x0101A8C0};
    on_event(NULL, base, id, &got);
}

/* ------------------------------------------------------------------------------------------------------------ packets */

enum { LEGACY = 128 };

/* A packet of the access point; `flat` shows no guard bands. */
static void packet(uint32_t stamp_us, uint16_t values, int flat)
{
    static int8_t buffer[2 * LEGACY];
    wifi_csi_info_t info = {.mac = {1, 2, 3, 4, 5, 6}, .first_word_invalid = true, .buf = buffer, .len = values};
    for (int k = 0; k < LEGACY / 2; k++) {
        const int guard = !flat && (k == 0 || (k >= 27 && k <= 37));
        buffer[2 * k] = (int8_t)(guard ? 0 : 20 + (k + (int)(stamp_us / 50000u)) % 7);
    }
    info.rx_ctrl.timestamp = stamp_us;
    on_csi(NULL, &info);
}

/* `count` packets, 50 ms apart on both clocks, of which the WiFi's is a second behind. */
static void stream(int count)
{
    for (int n = 0; n < count; n++) {
        now_us += 50000;
        packet((uint32_t)(now_us - 1000000), LEGACY, 0);
        run_csi_task();
    }
}

/* -------------------------------------------------------------------------------------------------------- scenarios */

static void connect_and_lose(void)
{
    event(WIFI_EVENT, WIFI_EVENT_STA_START);
    CHECK(connects == 1);
    has_ap = 0;
    event(IP_EVENT, IP_EVENT_STA_GOT_IP); /* the connection is lost already: no CSI, no pings, no restart */
    CHECK(!csi && !pinging);
    event(WIFI_EVENT, WIFI_EVENT_STA_DISCONNECTED);
    has_ap = 1;
    event(IP_EVENT, IP_EVENT_STA_GOT_IP);
    CHECK(connects == 2 && csi && pinging);
    CHECK(ping.count == ESP_PING_COUNT_INFINITE && ping.interval_ms == CONFIG_CSI_NODE_PING_MS);
    CHECK(ping.timeout_ms <= 100);                  /* far from the second that the features take for a gap */
    CHECK(ping.task_prio > TEMPORAL_TASK_PRIORITY); /* or a long decision would end the measuring */
    CHECK(ping.target_addr.stub_ip4.addr == 0x0101A8C0);
}

/* What the line in the log says of all these is in test_example.py. */
static void packets(void)
{
    connect_and_lose();
    packet((uint32_t)(now_us - 1000000), 2 * LEGACY, 0);
    packet((uint32_t)(now_us - 1000000), LEGACY, 1);
    run_csi_task();
    stream(100);
    packet((uint32_t)(now_us - 1000000 - 70000), LEGACY, 0); /* late */
    run_csi_task();
    event(WIFI_EVENT, WIFI_EVENT_STA_DISCONNECTED);
    CHECK(!csi && !pinging && connects == 3);
    event(IP_EVENT, IP_EVENT_STA_GOT_IP);
    packet((uint32_t)(now_us - 1000000), LEGACY, 1); /* a new chain has to see the order again */
    run_csi_task();
    for (int n = 0; n < 18; n++) { /* two more than the queue takes */
        now_us += 50000;
        packet((uint32_t)(now_us - 1000000), LEGACY, 0);
    }
    run_csi_task();
}

/* Silences about and beyond half a turn of the 32-bit clock: no packet after them is taken for an old one. */
static void silences(void)
{
    static const int minutes[] = {1, 30, 35, 36, 40, 55, 70, 71, 72, 107, 108, 180};
    connect_and_lose();
    stream(30);
    for (size_t n = 0; n < sizeof minutes / sizeof *minutes; n++) {
        now_us += (int64_t)minutes[n] * 60000000;
        stream(30);
    }
}

/* app_main's wait for its line: the world goes on meanwhile, once. */
void vTaskDelay(TickType_t ticks)
{
    static int waited;
    CHECK(ticks == pdMS_TO_TICKS(10000));
    if (waited++ > 0) {
        longjmp(out, 1);
    }
    if (strcmp(scenario, "silences") == 0) {
        silences();
    } else {
        CHECK(strcmp(scenario, "packets") == 0);
        packets();
    }
}

int main(int count, char **argument)
{
    CHECK(count == 3);
    scenario = argument[1];
    if (strcmp(scenario, "no_blob") != 0) {
        (void)read_blob(argument[2], flash);
    }
    if (setjmp(out) == 0) {
        app_main();
        printf("app_main returned\n");
        CHECK(!started);
        return 0;
    }
    CHECK(temporal_task_stop() == ESP_OK);
    return 0;
}
