/*
 * libpaho's asynchronous client, which does by itself what applications leave to it: it comes back when it is cut off,
 * and keeps what is published meanwhile.
 * What it does by its words: client-program.h.
 */
#include <MQTTAsync.h>

#define PREFIX "c-"
#define OFFLINE_QOS 1
#include "client-program.h"

static MQTTAsync client;
static volatile int subscribed;

static int on_message(void *context, char *topic, int length, MQTTAsync_message *message) {
	(void)context;
	(void)length;
	printf("%s %d %d %.*s\n", topic, message->qos, message->retained, message->payloadlen, (char *)message->payload);
	fflush(stdout);
	MQTTAsync_freeMessage(&message);
	MQTTAsync_free(topic);
	arrived++;
	return 1;
}

static void on_lost(void *context, char *cause) { (void)context; (void)cause; connected = 0; lost++; }
static void on_connected(void *context, char *cause) { (void)context; (void)cause; connected = 1; }
static void done4(void *context, MQTTAsync_successData *data) { (void)data; ++*(volatile int *)context; }
static void done5(void *context, MQTTAsync_successData5 *data) { (void)data; ++*(volatile int *)context; }
static void failed4(void *context, MQTTAsync_failureData *data) { (void)context; (void)data; failed++; }
static void failed5(void *context, MQTTAsync_failureData5 *data) { (void)context; (void)data; failed++; }

static MQTTAsync_responseOptions answered(volatile int *count) {
	MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
	if (version == 5) { options.onSuccess5 = done5; options.onFailure5 = failed5; }
	else { options.onSuccess = done4; options.onFailure = failed4; }
	options.context = (void *)count;
	return options;
}

static void dial(const char *port, const char *id, int clean, int with_will) {
	char url[64];
	snprintf(url, sizeof url, "tcp://127.0.0.1:%s", port);
	MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer;
	create.MQTTVersion = version;
	create.sendWhileDisconnected = 1;
	create.allowDisconnectedSendAtAnyTime = 1;
	create.maxBufferedMessages = 10000;
	MQTTAsync_createWithOptions(&client, url, id, MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
	MQTTAsync_setCallbacks(client, NULL, on_lost, on_message, NULL);
	MQTTAsync_setConnected(client, NULL, on_connected);
	MQTTAsync_connectOptions four = MQTTAsync_connectOptions_initializer;
	MQTTAsync_connectOptions five = MQTTAsync_connectOptions_initializer5;
	MQTTAsync_connectOptions options = version == 5 ? five : four;
	MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
	will.topicName = "c/will";
	will.message = "gone";
	will.qos = 1;
	if (with_will) options.will = &will;
	options.keepAliveInterval = 20;
	options.automaticReconnect = 1;
	options.minRetryInterval = 1;
	options.maxRetryInterval = 1;
	MQTTProperties properties = MQTTProperties_initializer;
	if (version == 5) {
		options.cleanstart = clean;
		MQTTProperty expiry = { MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, { .integer4 = clean ? 0 : 600 } };
		MQTTProperties_add(&properties, &expiry);
		options.connectProperties = &properties;
	} else {
		options.MQTTVersion = version;
		options.cleansession = clean;
	}
	MQTTAsync_connect(client, &options);
	until(&connected, 1, "connected");
}

static void subscribe(const char *filter) {
	MQTTAsync_responseOptions options = answered(&subscribed);
	int before = subscribed;
	MQTTAsync_subscribe(client, filter, 2, &options);
	until(&subscribed, before + 1, "subscribed");
}

static void publish(const char *topic, const char *payload, int qos, int retained) {
	MQTTAsync_responseOptions options = answered(&sent);
	MQTTAsync_message message = MQTTAsync_message_initializer;
	message.payload = (void *)payload;
	message.payloadlen = (int)strlen(payload);
	message.qos = qos;
	message.retained = retained;
	int code = MQTTAsync_sendMessage(client, topic, &message, &options);
	if (code != MQTTASYNC_SUCCESS) { fprintf(stderr, "publish: %d\n", code); exit(1); }
}

static void leave(void) {
	MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer;
	options.timeout = 1000;
	MQTTAsync_disconnect(client, &options);
	for (int i = 0; i < 300 && MQTTAsync_isConnected(client); i++) usleep(10000);
	MQTTAsync_destroy(&client);
}
