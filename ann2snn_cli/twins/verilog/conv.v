// A convolution, or a transposed one, over one to three axes (d, h, w; those it lacks have extent 1).
//
// Each event brings a value x of input (channel, d, h, w). Within one clock w*x is added to every output that
// it reaches, so values of 0, which send no event, cost nothing. A layer's turn passes the sums on and clears
// them.
//
//     convolution    out * STRIDE = in + PADDING - tap * DILATION     weight[co][ci in group][kd][kh][kw]
//     TRANSPOSED     out = in * STRIDE - PADDING + tap * DILATION     weight[ci][co in group][kd][kh][kw]

/* verilator lint_off WIDTH */  // signed operands of several widths extend to the widest of them
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // one clock adds to many sums, one after the other
/* verilator lint_off UNDRIVEN */  // the weight memory is filled by the bench, with $readmemh

module conv #(
    parameter X_BITS = 2,
    parameter WEIGHT_BITS = 8,
    parameter BIPOLAR = 0,  // weights of one bit: 0 is -1, 1 is +1
    parameter BITS = 16,
    parameter TRANSPOSED = 0,
    parameter GROUPS = 1,
    parameter IN_CHANNELS = 1,
    parameter OUT_CHANNELS = 1,
    parameter IN_D = 1, parameter IN_H = 1, parameter IN_W = 1,
    parameter OUT_D = 1, parameter OUT_H = 1, parameter OUT_W = 1,
    parameter KERNEL_D = 1, parameter KERNEL_H = 1, parameter KERNEL_W = 1,
    parameter STRIDE_D = 1, parameter STRIDE_H = 1, parameter STRIDE_W = 1,
    parameter PADDING_D = 0, parameter PADDING_H = 0, parameter PADDING_W = 0,
    parameter DILATION_D = 1, parameter DILATION_H = 1, parameter DILATION_W = 1
) (
    input        clock,
    input        start,  // of a sample

    input                     in_valid,
    input [31:0]              in_address,
    input signed [X_BITS-1:0] in_value,

    input        turn,  // of output `index`
    input [31:0] index,

    output reg                   out_valid,
    output reg [31:0]            out_address,
    output reg signed [BITS-1:0] out_value
);
    localparam IN_SIZE = IN_D * IN_H * IN_W;
    localparam OUT_SIZE = OUT_D * OUT_H * OUT_W;
    localparam OUTPUTS = OUT_CHANNELS * OUT_SIZE;
    localparam TAPS = KERNEL_D * KERNEL_H * KERNEL_W;
    localparam GROUP_IN = IN_CHANNELS / GROUPS;
    localparam GROUP_OUT = OUT_CHANNELS / GROUPS;
    localparam WEIGHTS = GROUPS * GROUP_IN * GROUP_OUT * TAPS;
    localparam NEXT_CO = TRANSPOSED ? TAPS : GROUP_IN * TAPS;  // to the weight of the next output channel

    reg signed [WEIGHT_BITS-1:0] weight [0:WEIGHTS-1];
    reg signed [BITS-1:0]        sum    [0:OUTPUTS-1];

    integer i, channel, group, first_weight, kd, kh, kw, d, h, w, co, from, to;

    // Where a value arrives through a tap, along one axis; -1: nowhere.
    function integer reach(input integer place, tap, stride, padding, dilation, extent);
        begin
            if (TRANSPOSED) reach = place * stride - padding + tap * dilation;
            else begin
                reach = place + padding - tap * dilation;
                reach = reach % stride == 0 ? reach / stride : -1;
            end
            if (reach < 0 || reach >= extent) reach = -1;
        end
    endfunction

    always @(posedge clock) begin
        if (start) for (i = 0; i < OUTPUTS; i = i + 1) sum[i] = 0;

        if (in_valid) begin
            channel = in_address / IN_SIZE;
            group = channel / GROUP_IN;
            first_weight = TRANSPOSED ? channel * GROUP_OUT * TAPS
                                      : (group * GROUP_OUT * GROUP_IN + channel % GROUP_IN) * TAPS;
            for (kd = 0; kd < KERNEL_D; kd = kd + 1) begin
                d = reach(in_address / (IN_H * IN_W) % IN_D, kd, STRIDE_D, PADDING_D, DILATION_D, OUT_D);
                for (kh = 0; kh < KERNEL_H; kh = kh + 1) begin
                    h = reach(in_address / IN_W % IN_H, kh, STRIDE_H, PADDING_H, DILATION_H, OUT_H);
                    for (kw = 0; kw < KERNEL_W; kw = kw + 1) begin
                        w = reach(in_address % IN_W, kw, STRIDE_W, PADDING_W, DILATION_W, OUT_W);
                        if (d >= 0 && h >= 0 && w >= 0) begin
                            from = first_weight + (kd * KERNEL_H + kh) * KERNEL_W + kw;
                            to = group * GROUP_OUT * OUT_SIZE + (d * OUT_H + h) * OUT_W + w;
                            for (co = 0; co < GROUP_OUT; co = co + 1) begin
                                if (BIPOLAR) sum[to] = weight[from] ? sum[to] + in_value : sum[to] - in_value;
                                else sum[to] = sum[to] + weight[from] * in_value;
                                from = from + NEXT_CO;
                                to = to + OUT_SIZE;
                            end
                        end
                    end
                end
            end
        end

        out_valid <= 0;
        if (turn) begin
            out_valid <= sum[index] !== 0;
            out_address <= index;
            out_value <= sum[index];
            sum[index] = 0;
        end
    end
endmodule
